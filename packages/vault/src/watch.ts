import type { Log } from "@osr/base/log";
import type { Scheduler } from "@osr/base/scheduler";

type WatchOptions = {
  /** For people: what could not be done. */
  readonly what: string;
  readonly everyMs: number;
  readonly scheduler: Scheduler;
  readonly log: Log;
};

/** Looks at something again and again while the vault runs; a look that fails is logged, and the next one comes all the same. */
export class Watch implements AsyncDisposable {
  readonly #look: (signal: AbortSignal) => Promise<void>;
  readonly #options: WatchOptions;
  readonly #ending = new AbortController();
  #timer: Disposable | undefined;
  #looking: Promise<void> = Promise.resolve();

  constructor(look: (signal: AbortSignal) => Promise<void>, options: WatchOptions) {
    this.#look = look;
    this.#options = options;
  }

  start(): void {
    const { everyMs, scheduler } = this.#options;
    this.#timer = scheduler.after(everyMs, () => {
      this.#looking = this.#lookAndGoOn();
    });
  }

  /** Ends the look that is under way. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#ending.abort(new Error("the vault stops"));
    await this.#looking;
    this.#timer?.[Symbol.dispose]();
  }

  async #lookAndGoOn(): Promise<void> {
    const { signal } = this.#ending;
    try {
      await this.#look(signal);
    } catch (error) {
      if (signal.aborted) return;
      this.#options.log.warn(this.#options.what, { error });
    }
    this.start();
  }
}
