import { SECOND_MS } from "@osr/base/units";

/** Points come every so often; one that is nearly due counts as due, else it would always be one point late. */
const EARLY_MS = 5 * SECOND_MS;

/** Says which points are made app-consistent. Every one, until an interval is set. Pure: time comes in as numbers. */
export class AppPointPace {
  #intervalMs: number | undefined;
  #madeMs = -Infinity;

  /** 0: no point; absent: every point. */
  setInterval(seconds: number | undefined): void {
    this.#intervalMs = seconds === undefined ? undefined : seconds * SECOND_MS;
  }

  isDue(nowMs: number): boolean {
    if (this.#intervalMs === undefined) return true;
    return this.#intervalMs > 0 && nowMs - this.#madeMs >= this.#intervalMs - EARLY_MS;
  }

  made(nowMs: number): void {
    this.#madeMs = nowMs;
  }
}
