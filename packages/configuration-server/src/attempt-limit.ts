import type { Clock } from "@osr/base/clock";
import { MINUTE_MS } from "@osr/base/units";

const WINDOW_MS = MINUTE_MS;
/** Wrong proofs in a minute: of one address, and of all together. */
const FAILURES_PER_ADDRESS_MAX = 10;
const FAILURES_MAX = 100;

/** Counts failures, so that secrets cannot be guessed. Forgets everything each minute. */
export class AttemptLimit {
  readonly #clock: Clock;
  readonly #failures = new Map<string, number>();
  #total = 0;
  #sinceMs = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Time until `address` may try again; 0: now. */
  waitMs(address: string): number {
    const nowMs = this.#clock.monotonicMs();
    if (nowMs - this.#sinceMs >= WINDOW_MS) {
      this.#failures.clear();
      this.#total = 0;
      this.#sinceMs = nowMs;
    }
    const isOver =
      this.#total >= FAILURES_MAX || (this.#failures.get(address) ?? 0) >= FAILURES_PER_ADDRESS_MAX;
    return isOver ? WINDOW_MS - (nowMs - this.#sinceMs) : 0;
  }

  failed(address: string): void {
    this.#total += 1;
    this.#failures.set(address, (this.#failures.get(address) ?? 0) + 1);
  }
}
