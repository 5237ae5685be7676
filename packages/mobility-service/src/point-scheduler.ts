import { SECOND_MS } from "@osr/base/units";
import { SLOT_SECONDS, nextSlot } from "@osr/contracts/tag";

/** Limits and default of the time between two recovery points. */
export const POINT_INTERVAL_SECONDS_MIN = SLOT_SECONDS;
export const POINT_INTERVAL_SECONDS_DEFAULT = 300;
export const POINT_INTERVAL_SECONDS_MAX = 24 * 60 * 60;

/** After a missed point the next attempt comes so soon, or when the next point is due. */
const RETRY_MS = 15 * SECOND_MS;

/** A point that is due may take so long to begin before it counts as missed. */
const GRACE_MS = 5 * SECOND_MS;

/** Says when recovery points are due, and counts those that were missed. Pure: time comes in as numbers. */
export class PointScheduler {
  #intervalMs: number;
  readonly #missed = new Map<string, number>();
  #regularMs = Infinity;
  #dueMs = Infinity;
  #isRetry = false;
  #slot = -1;

  constructor(options: { readonly intervalSeconds: number }) {
    this.#intervalMs = options.intervalSeconds * SECOND_MS;
  }

  /** Until then, no points are due and none are missed: a disk has not been copied yet. */
  get isStarted(): boolean {
    return this.#dueMs < Infinity;
  }

  /** From now on points are due, the first one at once. */
  start(nowMs: number): void {
    this.#regularMs = nowMs;
    this.#dueMs = nowMs;
  }

  /** Another interval from now on; the next point is due no later than it lasts. */
  setInterval(seconds: number, nowMs: number): void {
    const intervalMs = seconds * SECOND_MS;
    if (intervalMs === this.#intervalMs) return;
    this.#intervalMs = intervalMs;
    if (!this.isStarted) return;
    this.#regularMs = Math.min(this.#regularMs, nowMs + intervalMs);
    this.#dueMs = Math.min(this.#dueMs, this.#regularMs);
  }

  /** Monotonic time at which the next attempt is due. */
  get dueMs(): number {
    return this.#dueMs;
  }

  /** Points that were missed since the start, by reason. A point whose later attempt succeeds counts too: it was late. */
  get missed(): ReadonlyMap<string, number> {
    return this.#missed;
  }

  get missedCount(): number {
    let count = 0;
    for (const times of this.#missed.values()) count += times;
    return count;
  }

  /** The process server knows slots up to this one, such as of the agent's earlier runs. */
  seenSlot(slot: number): void {
    this.#slot = Math.max(this.#slot, slot);
  }

  /** A slot for one attempt: none is used twice, also where the tag's fate is not known. */
  takeSlot(unixMs: number): number {
    this.#slot = nextSlot(this.#slot, unixMs);
    return this.#slot;
  }

  made(nowMs: number): void {
    // The first of them is this one's own.
    this.#count("LATE", this.#advance(nowMs) - 1);
    this.#dueMs = this.#regularMs;
    this.#isRetry = false;
  }

  miss(reason: string, nowMs: number): void {
    const passed = this.#advance(nowMs);
    this.#count(reason, (this.#isRetry ? 0 : 1) + Math.max(0, passed - 1));
    this.#isRetry = nowMs + RETRY_MS < this.#regularMs;
    this.#dueMs = this.#isRetry ? nowMs + RETRY_MS : this.#regularMs;
  }

  /** No point can be tried now: counts what was due, and makes the next attempt due as soon as it can be made. */
  skip(reason: string, nowMs: number): void {
    const passed = this.#advance(nowMs - GRACE_MS);
    this.#count(reason, passed);
    if (passed > 0) this.#isRetry = true;
    if (this.#isRetry) this.#dueMs = Math.min(this.#dueMs, nowMs);
  }

  #count(reason: string, points: number): void {
    if (points > 0) this.#missed.set(reason, (this.#missed.get(reason) ?? 0) + points);
  }

  /** Moves the regular time beyond now; returns how many regular times have passed. */
  #advance(nowMs: number): number {
    let passed = 0;
    while (this.#regularMs <= nowMs) {
      this.#regularMs += this.#intervalMs;
      passed += 1;
    }
    return passed;
  }
}
