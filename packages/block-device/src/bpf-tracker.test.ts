import assert from "node:assert/strict";
import fs from "node:fs";
import { type TestContext, test } from "node:test";

import { GIB, MIB } from "@osr/base/units";

import { mountedBpffs } from "./bpf-folder.ts";
import { BpfTracker } from "./bpf-tracker.ts";
import { QUICK_DEVICES, quickPlaceOf } from "./change-program.ts";
import { BLOCK_SECTORS, ChangeList, SectorSink, settled } from "./change-tracker.contract.ts";
import {
  DISK_BYTES,
  keptOf,
  loopTrackerContract,
  openWriter,
  tracked,
  trackerName,
  trackerSkipReason,
} from "./loop-tracker.contract.ts";
import { type Watch, countedTest } from "./testing/counted-test.ts";
import { type LoopDisk, LoopDisks, runTool } from "./testing/loop-disk.ts";
import { eventDeviceOf } from "./tracefs-tracker.ts";

const skip = trackerSkipReason(() => BpfTracker.open(trackerName())[Symbol.dispose]());

loopTrackerContract("kernel program", (name) => BpfTracker.open(name), skip);

function startTracker(t: TestContext, watch: Watch, disk: LoopDisk): BpfTracker {
  const tracker = BpfTracker.open(trackerName());
  tracker.add(tracked(disk));
  watch(tracker, [disk]);
  t.after(() => tracker[Symbol.dispose]());
  tracker.start();
  return tracker;
}

/** What a drain brings, and the numbers of changes. */
function drained(tracker: BpfTracker): { readonly changes: number; readonly list: string[] } {
  const list = new ChangeList();
  const { changes, lost } = tracker.drain(list);
  assert.equal(lost, false);
  return { changes, list: list.changes };
}

countedTest("a device is found also where another one has its quick place", skip, (t, watch) => {
  const disk = new LoopDisks(t).create(DISK_BYTES);
  const write = openWriter(t, disk);
  const device = eventDeviceOf(disk);
  const other = device + QUICK_DEVICES;
  assert.equal(quickPlaceOf(other), quickPlaceOf(device));
  for (const eventDevices of [
    [other, device],
    [device, other],
  ]) {
    using tracker = BpfTracker.open(trackerName());
    tracker.add({ ...tracked(disk), eventDevices });
    watch(tracker, [disk]);
    tracker.start();
    write(5, 1);
    assert.deepEqual(drained(tracker), { changes: 1, list: ["0:40+8"] });
    tracker.remove(0);
    tracker.add(tracked(disk));
    write(6, 1);
    assert.deepEqual(drained(tracker), { changes: 1, list: ["1:48+8"] });
  }
});

countedTest("a device stays found when the one in its quick place goes", skip, (t, watch) => {
  const disk = new LoopDisks(t).create(DISK_BYTES);
  const write = openWriter(t, disk);
  using tracker = BpfTracker.open(trackerName());
  const other = eventDeviceOf(disk) + QUICK_DEVICES;
  tracker.add({ ...tracked(disk), eventDevices: [other] });
  tracker.add(tracked(disk));
  watch(tracker, [disk]);
  tracker.start();
  tracker.remove(0);
  write(5, 1);
  assert.deepEqual(drained(tracker), { changes: 1, list: ["1:40+8"] });
});

countedTest("nothing is lost however much changes while nobody looks", skip, (t, watch) => {
  const disk = new LoopDisks(t).create(DISK_BYTES);
  const write = openWriter(t, disk);
  const tracker = startTracker(t, watch, disk);
  for (let block = 0; block < 4096; block++) if (block % 64 !== 5) write(block, 1);
  const { changes } = drained(tracker);
  assert.equal(changes, 4096 - 64);
});

countedTest("a write over the border of two groups marks both", skip, (t, watch) => {
  const disk = new LoopDisks(t).create(2 * DISK_BYTES);
  const write = openWriter(t, disk);
  const tracker = startTracker(t, watch, disk);
  write(4095, 2);
  assert.deepEqual(drained(tracker), { changes: 2, list: ["0:32760+8", "0:32768+8"] });
});

countedTest("a large discard marks every block of it and no other", skip, (t, watch) => {
  const sizeBytes = 1024 * MIB;
  const disk = new LoopDisks(t).create(sizeBytes);
  const tracker = startTracker(t, watch, disk);
  const start = 7 * 4096;
  const count = 1000 * MIB + 4096;
  runTool("blkdiscard", "-o", String(start), "-l", String(count), disk.path);
  let from = Infinity;
  let to = 0;
  let sectors = 0;
  const sink = new (class extends SectorSink {
    changed(_disk: number, sector: number, sectorCount: number): void {
      from = Math.min(from, sector);
      to = Math.max(to, sector + sectorCount);
      sectors += sectorCount;
    }
  })();
  const { changes } = tracker.drain(sink);
  assert.deepEqual([from, to], [start / 512, (start + count) / 512]);
  assert.ok(changes >= count / 4096, `${changes} changes`);
  assert.ok(sectors >= count / 512);
});

countedTest("blocks wholly within an ignored range are no changes", skip, (t, watch) => {
  const disk = new LoopDisks(t).create(DISK_BYTES);
  const write = openWriter(t, disk);
  const tracker = startTracker(t, watch, disk);
  // From the middle of block 9 to the middle of block 14, and again further on, over whole words of the bitmap.
  tracker.setIgnoredRanges(0, [
    { sector: 60 * BLOCK_SECTORS, count: 45 * BLOCK_SECTORS },
    { sector: 30 * BLOCK_SECTORS, count: BLOCK_SECTORS },
    { sector: 10 * BLOCK_SECTORS - 4, count: 4 * BLOCK_SECTORS + 8 },
  ]);
  write(10, 4);
  write(30, 1);
  write(60, 45);
  assert.deepEqual(drained(tracker), { changes: 0, list: [] });
  write(9, 2);
  write(13, 2);
  write(29, 3);
  write(59, 47);
  assert.deepEqual(drained(tracker), {
    changes: 6,
    list: ["0:72+8", "0:112+8", "0:232+8", "0:248+8", "0:472+8", "0:840+8"],
  });
  tracker.setIgnoredRanges(0, []);
  write(12, 1);
  assert.deepEqual(drained(tracker), { changes: 1, list: ["0:96+8"] });
});

countedTest(
  "a disk whose blocks take too many bits is told in larger granules",
  skip,
  (t, watch) => {
    const disk = new LoopDisks(t).create(1024 * GIB);
    const write = openWriter(t, disk);
    const tracker = startTracker(t, watch, disk);
    write(5, 2);
    write(2 ** 28 - 1, 1);
    assert.deepEqual(drained(tracker), {
      changes: 3,
      list: ["0:32+16", "0:48+16", "0:2147483632+16"],
    });
  },
);

countedTest("changes beyond the size that the tracker knows are not quiet", skip, (t, watch) => {
  const disk = new LoopDisks(t).create(DISK_BYTES);
  const write = openWriter(t, disk);
  const tracker = startTracker(t, watch, { ...disk, sizeBytes: MIB });
  write(256, 1);
  assert.deepEqual(drained(tracker), { changes: 1, list: [] });
  write(255, 2);
  assert.deepEqual(drained(tracker), { changes: 1, list: ["0:2040+8"] });
});

countedTest("the block that an unaligned disk ends in is told", skip, (t, watch) => {
  const disk = new LoopDisks(t).create(DISK_BYTES);
  const write = openWriter(t, disk);
  const tracker = startTracker(t, watch, { ...disk, sizeBytes: MIB + 1024 });
  write(256, 1);
  assert.deepEqual(drained(tracker), { changes: 1, list: ["0:2048+8"] });
});

countedTest("reads are no changes", skip, (t, watch) => {
  const disk = new LoopDisks(t).create(DISK_BYTES);
  const tracker = startTracker(t, watch, disk);
  runTool("dd", `if=${disk.path}`, "of=/dev/null", "iflag=direct", "bs=64k", "count=8");
  assert.deepEqual(drained(tracker), { changes: 0, list: [] });
});

countedTest("one that lives has its name, one that is dead leaves it", skip, (t) => {
  const disk = new LoopDisks(t).create(DISK_BYTES);
  const name = trackerName();
  const tracker = BpfTracker.open(name);
  tracker.add(tracked(disk));
  tracker.start();
  assert.throws(() => BpfTracker.open(name), { code: "TRACKER_BUSY" });
  tracker.abandon();
  assert.ok(fs.readdirSync(`${mountedBpffs()}/${name}`).length > 0);
  const next = BpfTracker.open(name);
  next.add(tracked(disk));
  next.start();
  next[Symbol.dispose]();
  assert.equal(fs.existsSync(`${mountedBpffs()}/${name}`), false);
});

test("one that never ran leaves no folder", { skip: skip ?? false }, () => {
  const name = trackerName();
  BpfTracker.open(name).abandon();
  assert.equal(fs.existsSync(`${mountedBpffs()}/${name}`), false);
});

/** A tracker of `disk` whose process is gone without a word: its files are closed, the programs run. */
function killedTracker(
  t: TestContext,
  watch: Watch,
  disk: LoopDisk,
): { name: string; tracker: BpfTracker } {
  const name = trackerName();
  t.after(() => BpfTracker.open(name)[Symbol.dispose]());
  const tracker = successorOf(t, watch, name, disk);
  tracker.start();
  return { name, tracker };
}

/** It lets go at the end of the test, if it has not before. */
function successorOf(t: TestContext, watch: Watch, name: string, disk: LoopDisk): BpfTracker {
  const tracker = BpfTracker.open(name);
  tracker.add(tracked(disk));
  t.after(() => tracker.abandon());
  watch(tracker, [disk]);
  return tracker;
}

countedTest(
  "a successor finds what changed before, while and after nobody lived",
  skip,
  (t, watch) => {
    const disk = new LoopDisks(t).create(DISK_BYTES);
    const write = openWriter(t, disk);
    const { name, tracker } = killedTracker(t, watch, disk);
    write(1, 2);
    drained(tracker);
    const before = settled(tracker).written;
    const { position } = keptOf(tracker);
    write(7, 1);
    tracker.abandon();
    for (let turn = 0; turn < 1000; turn++) write(9, 3);
    const successor = successorOf(t, watch, name, disk);
    assert.ok(successor.resume(position));
    write(20, 1);
    assert.deepEqual(drained(successor).list, ["0:56+8", "0:72+24", "0:160+8"]);
    assert.equal(settled(successor).written, before + (1 + 3000 + 1) * BLOCK_SECTORS);
    successor.abandon();
  },
);

countedTest("a successor finds what a drain had taken that was cut short", skip, (t, watch) => {
  const disk = new LoopDisks(t).create(DISK_BYTES);
  const write = openWriter(t, disk);
  const { name, tracker } = killedTracker(t, watch, disk);
  const { position } = keptOf(tracker);
  write(3, 1);
  const kill = (): never => {
    throw new Error("killed");
  };
  assert.throws(() => tracker.drain({ changed: kill, changedBlocks: kill }));
  tracker.abandon();
  const successor = successorOf(t, watch, name, disk);
  assert.ok(successor.resume(position));
  assert.deepEqual(drained(successor).list, ["0:24+8"]);
  successor.abandon();
});

countedTest(
  "a successor does not go on with another run, another disk, or with nothing",
  skip,
  (t, watch) => {
    const disk = new LoopDisks(t).create(DISK_BYTES);
    const { name, tracker } = killedTracker(t, watch, disk);
    const { position } = keptOf(tracker);
    tracker.abandon();
    const resumes = (of: LoopDisk, at: Float64Array, as = name): boolean => {
      const successor = successorOf(t, watch, as, of);
      const result = successor.resume(at);
      if (as === name) successor.abandon();
      else successor[Symbol.dispose]();
      return result;
    };
    assert.equal(resumes({ ...disk, minor: disk.minor + 1 }, position), false);
    assert.equal(resumes({ ...disk, sizeBytes: DISK_BYTES / 2 }, position), false);
    assert.equal(resumes(disk, position.with(1, (position[1] ?? 0) + 1)), false);
    assert.equal(resumes(disk, position, trackerName()), false);
    assert.equal(resumes(disk, position), true);
  },
);

countedTest("a disk that nobody wants any more is not tracked by a successor", skip, (t, watch) => {
  const loops = new LoopDisks(t);
  const [one, other] = [loops.create(DISK_BYTES), loops.create(DISK_BYTES)];
  const { name, tracker } = killedTracker(t, watch, one);
  tracker.add(tracked(other));
  const { position } = keptOf(tracker);
  tracker.abandon();
  const successor = successorOf(t, watch, name, one);
  assert.ok(successor.resume(position));
  openWriter(t, other)(1, 1);
  assert.deepEqual(drained(successor), { changes: 0, list: [] });
  // Its device may come to mean another disk.
  successor.add({ ...tracked(other), eventDevices: [eventDeviceOf(other)] });
  openWriter(t, other)(2, 1);
  assert.deepEqual(drained(successor).list, ["1:16+8"]);
  successor.abandon();
});
