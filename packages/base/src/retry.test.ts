import assert from "node:assert/strict";
import { test } from "node:test";

import { OsrError } from "./errors.ts";
import { retried } from "./retry.ts";
import type { Scheduler } from "./scheduler.ts";

const policy = { attemptsMax: 4, delayFirstMs: 100, delayMaxMs: 250 };
const passing = new OsrError({ code: "BUSY", retryable: true, hint: "" }, "busy");
const randomness = { bytes: (count: number) => Buffer.alloc(count, 0xff) };

function recordingScheduler(): Scheduler & { readonly delaysMs: number[] } {
  const delaysMs: number[] = [];
  return {
    delaysMs,
    sleep: (ms, signal) => {
      signal?.throwIfAborted();
      delaysMs.push(Math.round(ms));
      return Promise.resolve();
    },
    after: () => ({ [Symbol.dispose]: () => undefined }),
  };
}

test("a passing error is tried again with growing delays, up to the limit", async () => {
  const scheduler = recordingScheduler();
  let calls = 0;
  const task = (): Promise<never> => {
    calls += 1;
    return Promise.reject(passing);
  };
  await assert.rejects(retried(task, policy, { scheduler, randomness }), passing);
  assert.equal(calls, 4);
  assert.deepEqual(scheduler.delaysMs, [100, 200, 250]);
});

test("a permanent error and an abort end it at once", async () => {
  const scheduler = recordingScheduler();
  const permanent = new Error("no");
  await assert.rejects(
    retried(() => Promise.reject(permanent), policy, { scheduler, randomness }),
    permanent,
  );
  const signal = AbortSignal.abort(new Error("stopped"));
  await assert.rejects(
    retried(() => Promise.reject(passing), policy, { scheduler, randomness, signal }),
    /stopped/,
  );
  assert.deepEqual(scheduler.delaysMs, []);
});
