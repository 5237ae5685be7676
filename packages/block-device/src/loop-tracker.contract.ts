import assert from "node:assert/strict";
import fs from "node:fs";
import type { TestContext } from "node:test";

import { must } from "@osr/base/assert";
import { BLOCK_BYTES } from "@osr/base/block-range";
import { hasCode } from "@osr/base/errors";
import { MIB } from "@osr/base/units";

import { alignedBuffer } from "./aligned-buffer.ts";
import { BLOCK_DEVICE_ERRORS } from "./block-device-errors.ts";
import {
  BLOCK_SECTORS,
  ChangeList,
  SectorSink,
  changeTrackerContract,
  settled,
} from "./change-tracker.contract.ts";
import type { ChangeTracker, SectorCounts, TrackedDisk } from "./change-tracker.ts";
import { openDirectReader } from "./direct-reader.ts";
import { sysfsCounters } from "./sysfs-counters.ts";
import { type Watch, countedTest } from "./testing/counted-test.ts";
import { type LoopDisk, LoopDisks, loopSkipReason, runTool } from "./testing/loop-disk.ts";
import { eventDeviceOf } from "./tracefs-tracker.ts";

export const DISK_BYTES = 16 * MIB;

let serial = 0;
/** Two runs of these tests may share a machine. */
export function trackerName(): string {
  return `osr-test-${process.pid}-${(serial += 1)}`;
}

/**
 * Why trackers cannot be tested here; undefined where they can. `probe`: tries one. Only what this machine lacks is a reason:
 * a program that the kernel refuses, or any other error, is a defect and thrown.
 */
export function trackerSkipReason(probe: () => void): string | undefined {
  const reason = loopSkipReason("blkdiscard", "mkfs.ext4");
  if (reason !== undefined) return reason;
  const { BPF_UNAVAILABLE, KERNEL_TYPES_UNKNOWN, TRACEFS_UNAVAILABLE } = BLOCK_DEVICE_ERRORS;
  try {
    probe();
    return undefined;
  } catch (error) {
    for (const info of [BPF_UNAVAILABLE, KERNEL_TYPES_UNKNOWN, TRACEFS_UNAVAILABLE])
      if (hasCode(error, info)) return error.message;
    throw error;
  }
}

/** Seeded, so that a failure can be replayed (xorshift32). */
function randomNumbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

class DirtyBlocks extends SectorSink {
  readonly blocks = new Set<number>();
  changed(_diskIndex: number, sector: number, sectorCount: number): void {
    const last = Math.floor((sector + sectorCount - 1) / BLOCK_SECTORS);
    for (let block = Math.floor(sector / BLOCK_SECTORS); block <= last; block++)
      this.blocks.add(block);
  }
  sorted(): number[] {
    return [...this.blocks].toSorted((a, b) => a - b);
  }
}

export function openWriter(t: TestContext, disk: LoopDisk): (block: number, count: number) => void {
  const { O_WRONLY, O_DIRECT } = fs.constants;
  const fd = fs.openSync(disk.path, O_WRONLY | O_DIRECT);
  t.after(() => fs.closeSync(fd));
  const data = alignedBuffer(64 * BLOCK_BYTES).fill(0xa5);
  return (block, count) => {
    fs.writeSync(fd, data, 0, count * BLOCK_BYTES, block * BLOCK_BYTES);
  };
}

export function tracked(disk: LoopDisk): TrackedDisk {
  return {
    eventDevices: [eventDeviceOf(disk)],
    sectorCount: disk.sizeBytes / 512,
    ignoredRanges: [],
  };
}

/** The numbers and sectors that an agent keeps after each drain. */
export function keptOf(tracker: ChangeTracker): {
  position: Float64Array;
  traced: SectorCounts[];
} {
  const position = new Float64Array(2048);
  tracker.savePosition(position);
  return { position, traced: [tracker.tracedSectors(0)] };
}

/** What holds for every tracker of this machine, on loop devices. `open`: one that has not been started. */
export function loopTrackerContract(
  name: string,
  open: (name: string) => ChangeTracker,
  skip: string | undefined,
): void {
  const startTracker = (
    t: TestContext,
    watch: Watch,
    disks: readonly LoopDisk[],
  ): ChangeTracker => {
    const tracker = open(trackerName());
    for (const disk of disks) tracker.add(tracked(disk));
    t.after(() => tracker[Symbol.dispose]());
    watch(tracker, disks);
    tracker.start();
    return tracker;
  };

  changeTrackerContract(
    name,
    (t) => {
      const loops = new LoopDisks(t);
      const disks = [loops.create(DISK_BYTES), loops.create(DISK_BYTES)];
      const writers = disks.map((disk) => openWriter(t, disk));
      const tracker = open(trackerName());
      for (const disk of disks) tracker.add(tracked(disk));
      t.after(() => tracker[Symbol.dispose]());
      return {
        tracker,
        write: (index, sector, count) =>
          writers[index]?.(sector / BLOCK_SECTORS, count / BLOCK_SECTORS),
      };
    },
    { skip },
  );

  countedTest(
    `${name}: tracks exactly the blocks of random writes, discards and zeroing`,
    skip,
    (t, watch) => {
      const disk = new LoopDisks(t).create(DISK_BYTES);
      const write = openWriter(t, disk);
      const tracker = startTracker(t, watch, [disk]);
      const random = randomNumbers(20_260_117);
      const expected = new DirtyBlocks();
      const seen = new DirtyBlocks();
      const counted = sysfsCounters().counterOf(disk);
      const statBefore = must(counted(), "counts");
      const tracedBefore = settled(tracker);
      for (let round = 0; round < 300; round++) {
        const block = random(DISK_BYTES / BLOCK_BYTES - 64);
        const count = 1 + random(3);
        const range = ["-o", String(block * BLOCK_BYTES), "-l", String(count * BLOCK_BYTES)];
        if (round % 30 === 10) runTool("blkdiscard", ...range, disk.path);
        else if (round % 30 === 20) runTool("blkdiscard", "--zeroout", ...range, disk.path);
        else write(block, count);
        expected.changed(0, block * BLOCK_SECTORS, count * BLOCK_SECTORS);
        if (round % 50 === 0) assert.equal(tracker.drain(seen).lost, false);
      }
      assert.equal(tracker.drain(seen).lost, false);
      assert.deepEqual(seen.sorted(), expected.sorted());
      const statAfter = must(counted(), "counts");
      const traced = settled(tracker);
      const written = traced.written - tracedBefore.written;
      const discarded = traced.discarded - tracedBefore.discarded;
      assert.equal(written, statAfter.written - statBefore.written);
      assert.equal(discarded, statAfter.discarded - statBefore.discarded);
      assert.ok(discarded > 0 && written > 0);
    },
  );

  for (const [type, sizeBytes, ...options] of [
    ["ext4", DISK_BYTES, "-b", "4096"],
    ["xfs", 320 * MIB],
    ["btrfs", 128 * MIB],
  ] as const)
    countedTest(
      `${name}: no block of ${type} in use changes without being tracked`,
      skip ?? loopSkipReason(`mkfs.${type}`),
      async (t, watch) => {
        const loops = new LoopDisks(t);
        const disk = loops.create(sizeBytes);
        const folder = loops.mount(disk, type, "-q", ...options);
        const tracker = startTracker(t, watch, [disk]);
        await using reader = openDirectReader(disk);
        const before = alignedBuffer(sizeBytes);
        const after = alignedBuffer(sizeBytes);
        runTool("sync", "-f", folder);
        const seen = new DirtyBlocks();
        tracker.drain(seen);
        seen.blocks.clear();
        reader.readSync(0, before);
        for (let file = 0; file < 40; file++) {
          fs.writeFileSync(`${folder}/${file}`, Buffer.alloc(file * 3000, file), { flush: true });
          if (file % 3 === 0) fs.rmSync(`${folder}/${file}`);
        }
        runTool("fallocate", "--punch-hole", "-o", "8192", "-l", "8192", `${folder}/37`);
        runTool("sync", "-f", folder);
        assert.equal(tracker.drain(seen).lost, false);
        reader.readSync(0, after);
        let differing = 0;
        for (let block = 0; block < sizeBytes / BLOCK_BYTES; block++) {
          const start = block * BLOCK_BYTES;
          const end = start + BLOCK_BYTES;
          if (before.compare(after, start, end, start, end) === 0) continue;
          differing += 1;
          assert.ok(seen.blocks.has(block), `block ${block} changed without an event`);
        }
        assert.ok(differing > 40, `only ${differing} blocks differ`);
      },
    );

  countedTest(
    `${name}: a disk that is added is tracked from there, one that is removed no more`,
    skip,
    (t, watch) => {
      const loops = new LoopDisks(t);
      const disks = [loops.create(DISK_BYTES), loops.create(DISK_BYTES)];
      const [first, second] = disks.map((disk) => ({ disk, write: openWriter(t, disk) }));
      assert.ok(first !== undefined && second !== undefined);
      const tracker = startTracker(t, watch, [first.disk]);
      const list = new ChangeList();
      second.write(1, 1);
      first.write(1, 1);
      assert.equal(tracker.add(tracked(second.disk)), 1);
      second.write(2, 1);
      first.write(5, 1);
      assert.deepEqual(tracker.drain(list), { changes: 3, lost: false });
      assert.deepEqual(list.changes.toSorted(), ["0:40+8", "0:8+8", "1:16+8"]);
      tracker.remove(0);
      first.write(3, 1);
      second.write(3, 1);
      assert.deepEqual(tracker.drain(list), { changes: 1, lost: false });
      // The number of a disk that is gone may come to mean another one.
      assert.equal(tracker.add(tracked(first.disk)), 2);
      first.write(4, 1);
      tracker.drain(list);
      assert.equal(list.changes.at(-1), "2:32+8");
    },
  );
}
