import assert from "node:assert/strict";
import { test } from "node:test";

import { changedTasks } from "./job-run.ts";

test("each change of a task is told once, with its seconds at the end", () => {
  const told = new Map<string, string>();
  const startTime = new Date("2026-01-01T00:00:00Z");
  const endTime = new Date("2026-01-01T00:00:02.5Z");
  const job = (state: string, ended?: Date): Parameters<typeof changedTasks>[0] => ({
    properties: {
      tasks: [
        { taskId: "1", friendlyName: "Preflight", state, startTime, ...(ended && { endTime }) },
        { taskId: "2", friendlyName: "Start", state: "NotStarted" },
      ],
    },
  });
  assert.deepEqual(changedTasks(job("InProgress"), told), ["Preflight: InProgress"]);
  assert.deepEqual(changedTasks(job("InProgress"), told), []);
  assert.deepEqual(changedTasks(job("Succeeded", endTime), told), ["Preflight: Succeeded (2.5 s)"]);
});

test("of a task that failed while its job goes on, the reason is told with it", () => {
  const serviceErrorDetails = { code: "ORDER_TIMEOUT", message: "no answer" };
  const tasks = [{ taskId: "1", friendlyName: "Shut down", state: "Failed" }];
  const errors = [{ taskId: "1", serviceErrorDetails }, { taskId: "2" }];
  const lines = changedTasks({ properties: { tasks, errors } }, new Map());
  assert.deepEqual(lines, ["Shut down: Failed; ORDER_TIMEOUT: no answer"]);
});
