import type { Scheduler } from "@osr/base/scheduler";
import { SECOND_MS } from "@osr/base/units";

/** A batch that came before its predecessors waits at most this long for them. */
export const HOLD_MS_MAX = 30 * SECOND_MS;
/** Batches of one disk that may wait: the protocol has 4 under way, of which one is never early. */
export const HELD_BATCHES_MAX = 3;

type Held = { readonly wake: () => void; readonly refuse: (error: Error) => void };

/** The batches of one disk that wait for those before them. */
export class HeldBatches {
  readonly #scheduler: Scheduler;
  readonly #held = new Set<Held>();

  constructor(scheduler: Scheduler) {
    this.#scheduler = scheduler;
  }

  get isFull(): boolean {
    return this.#held.size >= HELD_BATCHES_MAX;
  }

  /** Resolves when the batch is worth another look. Rejects with what `late` gives after 30 s, or with a refusal. */
  async wait(late: () => Error): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const held = { wake: resolve, refuse: reject };
    this.#held.add(held);
    using _ = this.#scheduler.after(HOLD_MS_MAX, () => reject(late()));
    try {
      await promise;
    } finally {
      this.#held.delete(held);
    }
  }

  /** The stream went on. */
  wake(): void {
    for (const { wake } of this.#held) wake();
  }

  refuse(error: Error): void {
    for (const { refuse } of this.#held) refuse(error);
  }
}
