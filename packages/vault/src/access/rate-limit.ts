import type { Clock } from "@osr/base/clock";

import { ArmError } from "../arm/arm-error.ts";

export type RateLimits = { readonly requestsPerSecond: number; readonly burst: number };

/** Callers that are remembered; beyond that the one that asked longest ago is forgotten, which only gives it a full bucket again. */
const CALLERS_MAX = 4096;

/** A bucket of requests for each caller, refilled steadily. */
export class RateLimit {
  readonly #limits: RateLimits;
  readonly #clock: Clock;
  readonly #buckets = new Map<string, { left: number; atMs: number }>();

  constructor(limits: RateLimits, clock: Clock) {
    this.#limits = limits;
    this.#clock = clock;
  }

  /** Takes one request of `caller`. Throws ArmError 429 with the time to wait. */
  take(caller: string): void {
    const { requestsPerSecond, burst } = this.#limits;
    const now = this.#clock.monotonicMs();
    const bucket = this.#buckets.get(caller) ?? { left: burst, atMs: now };
    const left = Math.min(burst, bucket.left + ((now - bucket.atMs) / 1000) * requestsPerSecond);
    this.#buckets.delete(caller);
    this.#buckets.set(caller, { left: Math.max(0, left - 1), atMs: now });
    const oldest = this.#buckets.keys().next().value;
    if (this.#buckets.size > CALLERS_MAX && oldest !== undefined) this.#buckets.delete(oldest);
    if (left < 1)
      throw new ArmError(
        429,
        "TooManyRequests",
        `more than ${requestsPerSecond} requests a second`,
        "Wait as long as Retry-After says.",
        { retryAfterSeconds: Math.max(1, Math.ceil((1 - left) / requestsPerSecond)) },
      );
  }
}
