import type { Clock } from "../clock.ts";

/** The clocks of the machine. */
export const systemClock: Clock = {
  unixMs: () => Date.now(),
  monotonicMs: () => performance.now(),
};
