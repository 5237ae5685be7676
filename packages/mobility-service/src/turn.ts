import { must } from "@osr/base/assert";

/** One at a time, in the order of asking: whoever has the turn works on a disk. */
export class Turn {
  #taken = false;
  readonly #waiting: (() => void)[] = [];

  /** Waits for the turn; disposing the result hands it on. Rejects with the signal's reason. */
  async take(signal: AbortSignal): Promise<Disposable> {
    signal.throwIfAborted();
    if (this.#taken) await this.#wait(signal);
    this.#taken = true;
    let held = true;
    return {
      [Symbol.dispose]: () => {
        if (!held) return;
        held = false;
        // The turn stays taken while it is handed over, so that nobody slips in between.
        if (this.#waiting.length > 0) must(this.#waiting.shift(), "waiter")();
        else this.#taken = false;
      },
    };
  }

  async #wait(signal: AbortSignal): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const onAbort = (): void => {
      const index = this.#waiting.indexOf(resolve);
      // Already handed the turn: it is taken and passed on by the caller.
      if (index < 0) return;
      this.#waiting.splice(index, 1);
      reject(signal.reason);
    };
    signal.addEventListener("abort", onAbort, { once: true });
    this.#waiting.push(resolve);
    try {
      await promise;
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
  }
}
