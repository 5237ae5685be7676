import { WaitingLine } from "@osr/base/waiting-line";

/** One at a time, in the order of asking: whoever has the turn works on a disk. */
export class Turn {
  #taken = false;
  readonly #waiting = new WaitingLine();

  /** Waits for the turn; disposing the result hands it on. Rejects with the signal's reason. */
  async take(signal: AbortSignal): Promise<Disposable> {
    signal.throwIfAborted();
    if (this.#taken) await this.#waiting.wait(signal);
    this.#taken = true;
    let held = true;
    return {
      [Symbol.dispose]: () => {
        if (!held) return;
        held = false;
        // The turn stays taken while it is handed over, so that nobody slips in between.
        this.#taken = this.#waiting.serve();
      },
    };
  }
}
