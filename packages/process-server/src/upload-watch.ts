import { OsrError } from "@osr/base/errors";
import type { Scheduler } from "@osr/base/scheduler";
import { MINUTE_MS } from "@osr/base/units";

import { PROCESS_SERVER_ERRORS } from "./process-server-errors.ts";

/** An upload that moves nothing for this long is given up and tried again. */
export const UPLOAD_STALL_MS = 2 * MINUTE_MS;

/** Aborts `signal` when nothing has moved for a while, or when `parent` is aborted. */
export class UploadWatch implements Disposable {
  readonly #controller = new AbortController();
  readonly #scheduler: Scheduler;
  readonly #parent: AbortSignal;
  readonly #stop = (): void => this.#controller.abort(this.#parent.reason);
  #timer: Disposable;

  constructor(scheduler: Scheduler, parent: AbortSignal) {
    this.#scheduler = scheduler;
    this.#parent = parent;
    this.#timer = this.#start();
    if (parent.aborted) this.#stop();
    else parent.addEventListener("abort", this.#stop, { once: true });
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Something has moved. */
  moved(): void {
    this.#timer[Symbol.dispose]();
    this.#timer = this.#start();
  }

  [Symbol.dispose](): void {
    this.#timer[Symbol.dispose]();
    this.#parent.removeEventListener("abort", this.#stop);
  }

  #start(): Disposable {
    return this.#scheduler.after(UPLOAD_STALL_MS, () =>
      this.#controller.abort(
        new OsrError(
          PROCESS_SERVER_ERRORS.UPLOAD_STALLED,
          `no data was taken for ${UPLOAD_STALL_MS} ms`,
        ),
      ),
    );
  }
}
