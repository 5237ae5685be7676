import { BATCHES_IN_FLIGHT_MAX } from "@osr/contracts/agent-protocol";

/** What the outcome of a batch says about the link. */
export type SendOutcome = {
  /** Back-pressure of the process server, in ms. */
  readonly delayMs: number;
  readonly attempts: number;
};

/**
 * Batches of one disk that are under way. It opens by one with each batch that went through at once, up to the limit of
 * the protocol, and closes to one where a batch had to be sent again or the process server asks to slow down.
 */
export class SendWindow {
  #limit = 2;
  #failure: { readonly error: unknown } | undefined;
  readonly #sending = new Set<Promise<void>>();

  /** Waits until there is room for one more. Throws what an earlier batch failed with. */
  async room(): Promise<void> {
    while (this.#failure === undefined && this.#sending.size >= this.#limit)
      await Promise.race(this.#sending);
    if (this.#failure !== undefined) await this.settled();
  }

  start(sending: Promise<SendOutcome>): void {
    const tracked = this.#track(sending).finally(() => this.#sending.delete(tracked));
    this.#sending.add(tracked);
  }

  async #track(sending: Promise<SendOutcome>): Promise<void> {
    try {
      const { delayMs, attempts } = await sending;
      const smooth = delayMs === 0 && attempts === 1;
      this.#limit = smooth ? Math.min(this.#limit + 1, BATCHES_IN_FLIGHT_MAX) : 1;
    } catch (error) {
      this.#failure ??= { error };
    }
  }

  /** Waits until nothing is under way; throws the first failure, once. */
  async settled(): Promise<void> {
    while (this.#sending.size > 0) await Promise.all(this.#sending);
    const failure = this.#failure;
    this.#failure = undefined;
    if (failure !== undefined) throw failure.error;
  }
}
