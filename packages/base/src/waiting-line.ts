/** Who waits for something, in the order of asking. Whoever gives up leaves the line; nobody is passed over. */
export class WaitingLine<T = void> {
  /** Sets keep the order of insertion. */
  readonly #waiting = new Set<(value: T) => void>();

  get length(): number {
    return this.#waiting.size;
  }

  /** Resolves with what {@link WaitingLine.serve} hands over; rejects with the signal's reason. */
  async wait(signal?: AbortSignal): Promise<T> {
    signal?.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    const onAbort = (): void => {
      // Whoever was served already has the value and is to use it or to hand it on.
      if (this.#waiting.delete(resolve)) reject(signal?.reason);
    };
    signal?.addEventListener("abort", onAbort, { once: true });
    this.#waiting.add(resolve);
    try {
      return await promise;
    } finally {
      signal?.removeEventListener("abort", onAbort);
    }
  }

  /** Hands `value` to whoever waits longest; false when nobody waits, and the value stays with the caller. */
  serve(value: T): boolean {
    const [next] = this.#waiting;
    if (next === undefined) return false;
    this.#waiting.delete(next);
    next(value);
    return true;
  }
}
