import assert from "node:assert/strict";
import { test } from "node:test";

import { silentLog } from "@osr/base/log";
import type { Scheduler } from "@osr/base/scheduler";

import { Watch } from "./watch.ts";

test("a look comes after each time, also after one that failed, and none after the end", async () => {
  const tasks: (() => void)[] = [];
  const scheduler: Pick<Scheduler, "after"> = {
    after: (_, task) => {
      tasks.push(task);
      return { [Symbol.dispose]: () => void tasks.splice(0) };
    },
  };
  let looks = 0;
  const look = async (): Promise<void> => {
    looks += 1;
    if (looks === 1) throw new Error("not yet");
  };
  const options = { what: "", everyMs: 1, scheduler: scheduler as Scheduler, log: silentLog };
  const watch = new Watch(look, options);
  const pass = async (): Promise<void> => {
    tasks.shift()?.();
    await new Promise((resolve) => void setImmediate(resolve));
  };
  watch.start();
  await pass();
  await pass();
  assert.equal(looks, 2);
  await watch[Symbol.asyncDispose]();
  await pass();
  assert.equal(looks, 2);
});
