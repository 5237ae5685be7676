import { isRetryable } from "./errors.ts";
import type { Randomness } from "./randomness.ts";
import type { Scheduler } from "./scheduler.ts";

export type RetryPolicy = {
  /** Calls in all, the first one included. Infinity where only the signal ends it. */
  readonly attemptsMax: number;
  readonly delayFirstMs: number;
  readonly delayMaxMs: number;
};

/** Delay before attempt `attempt` (2 is the first retry): doubled each time, with "full jitter" of one half. */
export function retryDelayMs(policy: RetryPolicy, attempt: number, randomness: Randomness): number {
  const full = Math.min(policy.delayMaxMs, policy.delayFirstMs * 2 ** Math.min(attempt - 2, 30));
  const share = randomness.bytes(4).readUInt32LE() / 2 ** 32;
  return full / 2 + (full / 2) * share;
}

/** Calls `task` until it succeeds, fails for good (an error that is not retryable), or the policy is used up. */
export async function retried<T>(
  task: (attempt: number) => Promise<T>,
  policy: RetryPolicy,
  ports: {
    readonly scheduler: Scheduler;
    readonly randomness: Randomness;
    readonly signal?: AbortSignal;
  },
): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    ports.signal?.throwIfAborted();
    try {
      return await task(attempt);
    } catch (error) {
      if (!isRetryable(error) || attempt >= policy.attemptsMax) throw error;
    }
    await ports.scheduler.sleep(retryDelayMs(policy, attempt + 1, ports.randomness), ports.signal);
  }
}
