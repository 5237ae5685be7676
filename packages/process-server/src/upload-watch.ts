import { OsrError } from "@osr/base/errors";
import type { Scheduler } from "@osr/base/scheduler";
import { MINUTE_MS } from "@osr/base/units";

import { PROCESS_SERVER_ERRORS } from "./process-server-errors.ts";

/** An upload that moves nothing for this long is given up and tried again. */
export const UPLOAD_STALL_MS = 2 * MINUTE_MS;

/**
 * Runs `task` under a watch. Rejects when the watch does, also where the task does not heed its signal: a store that hangs
 * must not hang us, and what it does later is resolved by reading.
 */
export async function watched<T>(
  scheduler: Scheduler,
  parent: AbortSignal,
  task: (watch: UploadWatch) => Promise<T>,
): Promise<T> {
  parent.throwIfAborted();
  using watch = new UploadWatch(scheduler, parent);
  const { signal } = watch;
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const abort = (): void => reject(signal.reason as Error);
  signal.addEventListener("abort", abort, { once: true });
  try {
    return await Promise.race([task(watch), aborted]);
  } finally {
    signal.removeEventListener("abort", abort);
  }
}

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
