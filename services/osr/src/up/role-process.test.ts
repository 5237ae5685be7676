import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { systemClock } from "@osr/base/platform/system-clock";
import { systemScheduler } from "@osr/base/platform/system-scheduler";
import { MINUTE_MS, SECOND_MS } from "@osr/base/units";

import { RestartDelay } from "./restart-delay.ts";
import { RoleProcess } from "./role-process.ts";

test("a role that cannot live is started less and less often, until it has lived for some minutes", () => {
  const delay = new RestartDelay();
  const after = (livedMs: number, times: number): number[] =>
    Array.from({ length: times }, () => delay.after({ livedMs, isKilled: false }) / SECOND_MS);
  assert.deepEqual(after(SECOND_MS, 8), [1, 2, 4, 8, 16, 32, 60, 60]);
  assert.deepEqual(after(5 * MINUTE_MS, 2), [1, 1]);
  assert.deepEqual(after(SECOND_MS, 2), [2, 4]);
  assert.equal(delay.after({ livedMs: SECOND_MS, isKilled: true }), SECOND_MS);
  assert.deepEqual(after(SECOND_MS, 1), [8]);
});

test("a role that ends is started again with a growing delay, and the cause is said", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "osr-role-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const main = join(folder, "main.mjs");
  writeFileSync(
    main,
    `process.stdout.write('{"ready":true}\\n');
     process.stderr.write("STORE_FULL: no space\\n  remedy: make room\\n");
     process.exitCode = 3;`,
  );
  const logFile = join(folder, "vault.log");
  const said: string[] = [];
  const slept: number[] = [];
  const fourth = Promise.withResolvers<void>();
  const role = new RoleProcess({
    main,
    words: ["vault", "run"],
    configFile: join(folder, "config.json"),
    logFile,
    left: { note: () => Promise.resolve(), forget: () => undefined },
    say: (line) => said.push(line),
    clock: { ...systemClock, monotonicMs: () => 0 },
    scheduler: {
      ...systemScheduler,
      sleep: async (ms, signal) => {
        signal?.throwIfAborted();
        // What a process says last may arrive after its end.
        if (ms < SECOND_MS) return systemScheduler.sleep(ms, signal);
        slept.push(ms / SECOND_MS);
        if (slept.length < 4) return;
        fourth.resolve();
        await systemScheduler.sleep(ms, signal);
      },
    },
  });
  await role.start();
  await fourth.promise;
  // It waits for 8 s now: who stops it does not.
  await role.stop();
  assert.deepEqual(slept, [1, 2, 4, 8]);
  assert.equal(said.length, 4);
  assert.equal(
    said[2],
    `vault has ended after 0 s (exit code 3: STORE_FULL: no space); it is started again in 4 s; see ${logFile}`,
  );
  assert.equal(readFileSync(logFile, "utf8").match(/STORE_FULL/g)?.length, 4);
});
