import { OsrError } from "@osr/base/errors";
import { WaitingLine } from "@osr/base/waiting-line";

import { type ObjectStore, STORE_ERRORS } from "./object-store.ts";

export type LimitedOptions = {
  /** Calls under way at once. */
  readonly callsMax: number;
  /** Calls that may wait for their turn; one more is refused as STORE_UNAVAILABLE. */
  readonly queueMax: number;
};

/** A store that has a limited number of calls under way; the rest wait in the order in which they came. */
export function limitedStore(store: ObjectStore, options: LimitedOptions): ObjectStore {
  const turns = new Turns(options);
  return {
    create: (name, body, create) =>
      turns.run(() => store.create(name, body, create), create?.signal),
    head: (name, signal) => turns.run(() => store.head(name, signal), signal),
    read: (name, offset, target, signal) =>
      turns.run(() => store.read(name, offset, target, signal), signal),
    readStart: (name, target, signal) =>
      turns.run(() => store.readStart(name, target, signal), signal),
    list: (prefix, list) => turns.run(() => store.list(prefix, list), list?.signal),
    delete: (name, signal) => turns.run(() => store.delete(name, signal), signal),
  };
}

class Turns {
  readonly #options: LimitedOptions;
  readonly #waiting = new WaitingLine();
  #running = 0;

  constructor(options: LimitedOptions) {
    this.#options = options;
  }

  async run<T>(call: () => Promise<T>, signal: AbortSignal | undefined): Promise<T> {
    signal?.throwIfAborted();
    if (this.#running < this.#options.callsMax) this.#running += 1;
    else await this.#turn(signal);
    try {
      return await call();
    } finally {
      this.#pass();
    }
  }

  /** Resolves when a call that ends hands its place over. */
  async #turn(signal: AbortSignal | undefined): Promise<void> {
    const { callsMax, queueMax } = this.#options;
    if (this.#waiting.length >= queueMax)
      throw new OsrError(
        STORE_ERRORS.STORE_UNAVAILABLE,
        `${callsMax} calls are under way and ${queueMax} wait`,
      );
    await this.#waiting.wait(signal);
  }

  #pass(): void {
    if (!this.#waiting.serve()) this.#running -= 1;
  }
}
