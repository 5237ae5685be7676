import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, statfsSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { mapMemory } from "@osr/block-device/mapped-memory";

import { DirtyMemory } from "./dirty-memory.ts";
import { DiskDirtyState } from "./disk-dirty-state.ts";
import { heapMemory } from "./kept-memory.ts";
import {
  CHURN_BLOCKS,
  CHURN_DISK,
  CHURN_LABEL,
  CHURN_LIMITS,
  churnBlocks,
} from "./kept-churn.contract.ts";
import { KeptState } from "./kept-state.ts";
import { SeededRandom } from "./testing/seeded-random.ts";

const MEMORY = "/dev/shm";
const TMPFS_MAGIC = 0x01021994;
const KILLS = 8;

function skipReason(): string | undefined {
  try {
    return statfsSync(MEMORY).type === TMPFS_MAGIC ? undefined : `${MEMORY} is no tmpfs`;
  } catch {
    return `there is no ${MEMORY}`;
  }
}

function adopt(state: KeptState): DiskDirtyState {
  const kept = state.diskOf(CHURN_DISK);
  assert.ok(kept);
  const budget = new DirtyMemory(CHURN_LIMITS.dirtyMemoryBytesMax, state.bitmaps);
  const dirty = DiskDirtyState.adopt(CHURN_BLOCKS, budget, kept);
  assert.ok(dirty);
  for (const list of [...state.batchRuns, state.remainderRuns])
    list.forEach((_disk, start, count) => dirty.returnRun(start, count));
  return dirty;
}

test(
  `whenever a process is killed, its successor knows every dirty block (${KILLS} kills)`,
  { skip: skipReason() ?? false },
  async (t) => {
    const folder = mkdtempSync(join(MEMORY, "osr-test-"));
    t.after(() => rmSync(folder, { recursive: true }));
    const random = new SeededRandom(Number(process.env["OSR_TEST_SEED"] ?? 4));
    const wanted = churnBlocks();
    for (let kills = 0; kills < KILLS; kills++) {
      const file = join(folder, String(kills));
      const program = join(import.meta.dirname, "kept-churn.contract.ts");
      const flags = ["--experimental-ffi", "--disable-warning=ExperimentalWarning"];
      const child = spawn(process.execPath, [...flags, program, file, String(random.below(1e6))], {
        stdio: ["ignore", "pipe", "inherit"],
      });
      t.after(() => child.kill("SIGKILL"));
      await once(child.stdout, "data");
      await sleep(random.below(60));
      child.kill("SIGKILL");
      await once(child, "exit");
      using memory = mapMemory(file, KeptState.bytes(CHURN_LIMITS));
      const state = KeptState.find(memory, CHURN_LIMITS, CHURN_LABEL);
      assert.ok(state, "all of it was kept");
      const dirty = adopt(state);
      dirty.returnAll();
      const missing = wanted.filter((block) => !dirty.live.has(block));
      assert.deepEqual(missing, [], `${missing.length} blocks are lost`);
    }
  },
);

test("what is left of another boot, other limits or another disk is not used", () => {
  const memory = heapMemory(KeptState.bytes(CHURN_LIMITS));
  assert.equal(KeptState.find(memory, CHURN_LIMITS, CHURN_LABEL), undefined);
  const state = KeptState.create(memory, CHURN_LIMITS, CHURN_LABEL);
  const kept = state.newDisk(CHURN_DISK);
  kept.setStage({ kind: "resync", reason: "TRACKING_LOST" });
  kept.acked = { session: 2 ** 41, interval: 3, recordNo: 4 };
  assert.equal(KeptState.find(memory, CHURN_LIMITS, "another boot"), undefined);
  const limits = { ...CHURN_LIMITS, batchesHeldMax: 2 };
  assert.equal(KeptState.find(memory, limits, CHURN_LABEL), undefined);
  const found = KeptState.find(memory, CHURN_LIMITS, CHURN_LABEL);
  assert.equal(found?.diskOf({ ...CHURN_DISK, sizeBytes: 2 ** 30 }), undefined);
  assert.equal(found?.diskOf({ ...CHURN_DISK, swapRanges: [{ sector: 8, count: 8 }] }), undefined);
  const known = found?.diskOf(CHURN_DISK);
  assert.deepEqual(known?.stage, { kind: "resync", reason: "TRACKING_LOST" });
  assert.deepEqual(known?.acked, { session: 2 ** 41, interval: 3, recordNo: 4 });
  state.forget();
  assert.equal(KeptState.find(memory, CHURN_LIMITS, CHURN_LABEL), undefined);
});

test("where memory runs out, nothing is kept, and nothing else changes", () => {
  const heap = heapMemory(KeptState.bytes(CHURN_LIMITS));
  let room = true;
  const memory = {
    buffer: heap.buffer,
    reserve: (offset: number, bytes: number) => room && heap.reserve(offset, bytes),
  };
  const state = KeptState.create(memory, CHURN_LIMITS, CHURN_LABEL);
  const kept = state.newDisk(CHURN_DISK);
  const budget = new DirtyMemory(CHURN_LIMITS.dirtyMemoryBytesMax, state.bitmaps);
  const dirty = DiskDirtyState.begin(CHURN_BLOCKS, budget, kept);
  dirty.live.clear();
  room = false;
  for (const block of churnBlocks()) dirty.live.add(block, 1);
  assert.ok(churnBlocks().every((block) => dirty.live.has(block)));
  assert.equal(KeptState.find(memory, CHURN_LIMITS, CHURN_LABEL), undefined);
});
