import type { Clock } from "@osr/base/clock";
import type { Scheduler } from "@osr/base/scheduler";
import { SECOND_MS } from "@osr/base/units";

export type BucketOptions = {
  readonly bytesPerSecond: number;
  /** Bytes that may go at once after a pause. */
  readonly burstBytes: number;
  readonly clock: Clock;
  readonly scheduler: Scheduler;
};

/** A token bucket of bytes. Takers are served in the order in which they came. */
export class TokenBucket {
  readonly #options: BucketOptions;
  /** When the bucket is full again, on the monotonic clock. */
  #fullMs = 0;

  constructor(options: BucketOptions) {
    this.#options = options;
  }

  /** Resolves when `bytes` may go; they may be more than the burst. What an aborted taker took stays taken. */
  async take(bytes: number, signal?: AbortSignal): Promise<void> {
    const { bytesPerSecond, burstBytes, clock, scheduler } = this.#options;
    const nowMs = clock.monotonicMs();
    const burstMs = (burstBytes / bytesPerSecond) * SECOND_MS;
    this.#fullMs = Math.max(this.#fullMs, nowMs) + (bytes / bytesPerSecond) * SECOND_MS;
    const waitMs = this.#fullMs - burstMs - nowMs;
    if (waitMs > 0) await scheduler.sleep(waitMs, signal);
    else signal?.throwIfAborted();
  }
}
