import { assert } from "@osr/base/assert";

type Waiter = { readonly bytes: number; readonly grant: () => void };

/**
 * A limit on bytes that are in memory at once, over all connections. Whoever needs bytes waits in line until they are
 * free; the first in line is never overtaken, so that a large one does not starve.
 */
export class ByteBudget {
  readonly #bytesMax: number;
  readonly #waiters: Waiter[] = [];
  #usedBytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** Requests that wait for room. */
  get waiting(): number {
    return this.#waiters.length;
  }

  /** Resolves to the hold on `bytes` (at most the whole budget); dispose of it when they are free again. */
  async take(bytes: number, signal: AbortSignal): Promise<Disposable> {
    assert(bytes <= this.#bytesMax, `${bytes} bytes are more than the whole budget`);
    signal.throwIfAborted();
    if (this.#waiters.length > 0 || this.#usedBytes + bytes > this.#bytesMax)
      await this.#wait(bytes, signal);
    else this.#usedBytes += bytes;
    let held = true;
    return {
      [Symbol.dispose]: () => {
        if (held) this.#release(bytes);
        held = false;
      },
    };
  }

  #wait(bytes: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const waiter: Waiter = {
        bytes,
        grant: () => {
          signal.removeEventListener("abort", abort);
          resolve();
        },
      };
      const abort = (): void => {
        this.#waiters.splice(this.#waiters.indexOf(waiter), 1);
        this.#grantNext();
        reject(signal.reason as Error);
      };
      signal.addEventListener("abort", abort, { once: true });
      this.#waiters.push(waiter);
    });
  }

  #release(bytes: number): void {
    this.#usedBytes -= bytes;
    this.#grantNext();
  }

  #grantNext(): void {
    for (let next = this.#waiters[0]; next !== undefined; next = this.#waiters[0]) {
      if (this.#usedBytes + next.bytes > this.#bytesMax) return;
      this.#usedBytes += next.bytes;
      this.#waiters.shift();
      next.grant();
    }
  }
}
