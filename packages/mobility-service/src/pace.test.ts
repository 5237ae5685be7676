import assert from "node:assert/strict";
import { test } from "node:test";

import { Pace } from "./pace.ts";
import { VirtualTime } from "./testing/virtual-time.ts";

test("who shares a pace gets no more than its bytes a second together; idle time is not saved up", async () => {
  const time = new VirtualTime();
  const pace = new Pace(1000, { clock: time, scheduler: time });
  const { signal } = new AbortController();
  const done: number[] = [];
  const work = async (): Promise<void> => {
    for (let times = 0; times < 3; times++) {
      await pace.wait(500, signal);
      done.push(time.monotonicMs());
    }
  };
  const run = async (tasks: Promise<void>[]): Promise<void> => {
    const all = Promise.all(tasks);
    for (let step = 0; step < 50; step++) {
      await new Promise(setImmediate);
      time.step();
    }
    await all;
  };
  await run([work(), work()]);
  assert.deepEqual(done, [0, 500, 1000, 1500, 2000, 2500]);
  time.pass(60_000);
  done.length = 0;
  const startMs = time.monotonicMs();
  await run([work()]);
  assert.deepEqual(
    done.map((ms) => ms - startMs),
    [0, 500, 1000],
  );
  const stopped = new AbortController();
  stopped.abort(new Error("stopped"));
  await assert.rejects(pace.wait(500, stopped.signal), /stopped/);
});
