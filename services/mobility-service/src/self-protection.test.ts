import assert from "node:assert/strict";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { silentLog } from "@osr/base/log";
import { holdDataFolder } from "@osr/base/platform/data-folder";
import type { Scheduler } from "@osr/base/scheduler";
import type { ProtectableDisk } from "@osr/block-device/protected-disk";

import { refusedDisks, watchForReplicatedData } from "./self-protection.ts";

test("the agent ends when a role takes a folder on one of its disks", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "osr-self-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const { dev } = statSync(folder);
  const disk = {
    name: "x",
    major: (dev >> 8) & 0xfff,
    minor: (dev & 0xff) | ((dev >> 12) & 0xfff00),
  };
  const elsewhere = { ...disk, major: 4095, minor: 1 };
  let check: () => void = () => undefined;
  const scheduler = {
    after: (_ms: number, task: () => void) => (
      (check = task),
      { [Symbol.dispose]: () => undefined }
    ),
  } as unknown as Scheduler;
  const stopsOf = (watched: typeof disk): number => {
    let stops = 0;
    const service = { run: () => Promise.resolve(), stop: () => Promise.resolve(void stops++) };
    const disks = [{ disk: watched as unknown as ProtectableDisk }];
    using _ = watchForReplicatedData(disks, service, { log: silentLog, scheduler });
    check();
    return stops;
  };
  await using held = await holdDataFolder(folder);
  assert.notEqual(held, undefined);
  assert.equal(stopsOf(disk), 1);
  assert.equal(stopsOf(elsewhere), 0);
});

test("a disk that was refused for what it holds is in the status, others are not", () => {
  const excluded = [
    { name: "vda", code: "HOLDS_REPLICATED_DATA", reason: "because" },
    { name: "vdb", code: "READ_ONLY", reason: "because" },
  ] as const;
  const [only, ...others] = refusedDisks({ disks: [], excluded });
  assert.equal(only?.code, "HOLDS_REPLICATED_DATA");
  assert.match(only.message, /^vda /);
  assert.deepEqual(others, []);
});
