import { MINUTE_MS, SECOND_MS } from "@osr/base/units";

const DELAY_FIRST_MS = SECOND_MS;
const DELAY_MAX_MS = MINUTE_MS;
/** A role that has lived this long did its work: what ended it is no longer what ended it before. */
const LIVED_MS = 5 * MINUTE_MS;

/** Doubles the delay before a role is started again, so that one that cannot live takes nothing from the others. */
export class RestartDelay {
  #nextMs = DELAY_FIRST_MS;

  /**
   * How long to wait, from 1 s to 1 min, before a role is started again that has lived for `livedMs`. One that was killed from
   * outside did not fail: it is needed at once.
   */
  after({ livedMs, isKilled }: { readonly livedMs: number; readonly isKilled: boolean }): number {
    if (isKilled) return DELAY_FIRST_MS;
    const delayMs = livedMs >= LIVED_MS ? DELAY_FIRST_MS : this.#nextMs;
    this.#nextMs = Math.min(2 * delayMs, DELAY_MAX_MS);
    return delayMs;
  }
}
