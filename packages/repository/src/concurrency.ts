import { assert } from "@osr/base/assert";
import { WaitingLine } from "@osr/base/waiting-line";

/** Calls `task` for every item, at most `concurrencyMax` at once. Results are in the order of the items. */
export async function mapBounded<T, R>(
  items: readonly T[],
  concurrencyMax: number,
  task: (item: T, index: number) => Promise<R>,
): Promise<R[]> {
  const results: R[] = [];
  let next = 0;
  const lane = async (): Promise<void> => {
    while (next < items.length) {
      const index = next++;
      try {
        results[index] = await task(items[index] as T, index);
      } catch (error) {
        // The first failure ends the other lanes too.
        next = items.length;
        throw error;
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(concurrencyMax, items.length) }, lane));
  return results;
}

/** At most `max` holders at once; the others wait in order. */
export class Semaphore {
  readonly #waiting = new WaitingLine();
  #free: number;

  constructor(max: number) {
    assert(max >= 1, "a semaphore admits somebody");
    this.#free = max;
  }

  /** Runs `task` when there is room for it. */
  async run<T>(task: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free -= 1;
    else await this.#waiting.wait();
    try {
      return await task();
    } finally {
      if (!this.#waiting.serve()) this.#free += 1;
    }
  }
}
