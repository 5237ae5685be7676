import { setTimeout as wait } from "node:timers/promises";

import type { Scheduler } from "../scheduler.ts";

/** Timers of the process. */
export const systemScheduler: Scheduler = {
  async sleep(ms, signal) {
    signal?.throwIfAborted();
    try {
      await wait(ms, undefined, signal === undefined ? {} : { signal });
    } catch (error) {
      signal?.throwIfAborted();
      throw error;
    }
  },
  after(ms, task) {
    const timer = setTimeout(task, ms);
    timer.unref();
    return { [Symbol.dispose]: () => clearTimeout(timer) };
  },
};
