/** Tells all who wait that something has changed. */
export class Pulse {
  #next = Promise.withResolvers<void>();
  #count = 0;

  /** Grows with every beat. */
  get count(): number {
    return this.#count;
  }

  beat(): void {
    const { resolve } = this.#next;
    this.#next = Promise.withResolvers<void>();
    this.#count += 1;
    resolve();
  }

  /** Resolves with the next beat, or when the signal is aborted. */
  async next(signal: AbortSignal): Promise<void> {
    if (signal.aborted) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    const onAbort = (): void => resolve();
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      await Promise.race([this.#next.promise, promise]);
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
  }
}
