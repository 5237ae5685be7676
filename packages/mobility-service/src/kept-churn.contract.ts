import { BLOCK_BYTES } from "@osr/base/block-range";
import type { ProtectableDisk } from "@osr/block-device/protected-disk";
import { mapMemory } from "@osr/block-device/mapped-memory";

import { DirtyMemory } from "./dirty-memory.ts";
import { DiskDirtyState } from "./disk-dirty-state.ts";
import { KeptState } from "./kept-state.ts";
import { type ReplicationLimits, REPLICATION_LIMITS } from "./replication-limits.ts";
import { SeededRandom } from "./testing/seeded-random.ts";

/** Little memory, so that bitmaps coarsen, move and are used again all the time. */
export const CHURN_LIMITS: ReplicationLimits = {
  ...REPLICATION_LIMITS,
  dirtyMemoryBytesMax: 200_000,
};
export const CHURN_LABEL = "churn";
const DISK_BYTES = 12 * 2 ** 30 + 5 * BLOCK_BYTES;
export const CHURN_BLOCKS = DISK_BYTES / BLOCK_BYTES;
export const CHURN_DISK: ProtectableDisk = {
  identity: "serial:churn",
  name: "vda",
  path: "/dev/vda",
  major: 254,
  minor: 0,
  sequence: 0,
  sizeBytes: DISK_BYTES,
  logicalSectorBytes: 512,
  isBoot: false,
  swapRanges: [],
};

/** Blocks that are dirty from the start and are never acknowledged. */
export function churnBlocks(): number[] {
  const random = new SeededRandom(1);
  return Array.from({ length: 4000 }, () => random.below(CHURN_BLOCKS));
}

/** Moves dirty blocks from set to set until it is killed: `node kept-churn.contract.ts FILE SEED`. */
function main(file: string, seed: number): void {
  const random = new SeededRandom(seed);
  const memory = mapMemory(file, KeptState.bytes(CHURN_LIMITS));
  const state = KeptState.create(memory, CHURN_LIMITS, CHURN_LABEL);
  const kept = state.newDisk(CHURN_DISK);
  const budget = new DirtyMemory(CHURN_LIMITS.dirtyMemoryBytesMax, state.bitmaps);
  const dirty = DiskDirtyState.begin(CHURN_BLOCKS, budget, kept);
  const lists = [...state.batchRuns, state.remainderRuns];
  dirty.live.clear();
  for (const block of churnBlocks()) dirty.live.add(block, 1);
  kept.setStage({ kind: "delta" });
  process.stdout.write("ready\n");
  let interval = 1;
  dirty.begin(interval);
  for (;;) {
    const dice = random.below(100);
    const list = random.pick([state.remainderRuns, ...lists]);
    if (dice < 70) {
      for (let runs = 0, at = random.below(CHURN_BLOCKS); runs < 20; runs++) {
        const count = list.size < 2000 ? dirty.take(at, 256, list) : 0;
        if (count === 0) break;
        at = dirty.runStart + count;
      }
    } else if (dice < 85) {
      list.forEach((_disk, start, count) => dirty.returnRun(start, count));
      list.clear();
    } else if (dice < 95) {
      interval += 1;
      dirty.begin(interval);
    } else if (dice < 97) {
      dirty.returnAll();
      interval += 1;
      dirty.begin(interval);
    } else {
      // Other changes, which take memory.
      for (let times = 0; times < 50; times++) dirty.live.add(random.below(CHURN_BLOCKS), 1);
    }
  }
}

if (import.meta.main) main(process.argv[2] ?? "", Number(process.argv[3]));
