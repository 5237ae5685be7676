import assert from "node:assert/strict";
import fs from "node:fs";
import { type TestContext, test } from "node:test";

import { must } from "@osr/base/assert";
import { BLOCK_BYTES } from "@osr/base/block-range";
import { messageOf } from "@osr/base/errors";
import { KIB, MIB } from "@osr/base/units";

import { alignedBuffer } from "./aligned-buffer.ts";
import { ChangeList, changeTrackerContract } from "./change-tracker.contract.ts";
import type { ChangeSink, SectorCounts } from "./change-tracker.ts";
import { openDirectReader } from "./direct-reader.ts";
import { sysfsCounters } from "./sysfs-counters.ts";
import { type LoopDisk, LoopDisks, loopSkipReason, runTool } from "./testing/loop-disk.ts";
import { mountedTracefs } from "./tracefs.ts";
import { TracefsTracker, eventDeviceOf } from "./tracefs-tracker.ts";

const DISK_BYTES = 16 * MIB;
const BLOCK_SECTORS = BLOCK_BYTES / 512;

let serial = 0;
/** Two runs of these tests may share a machine. */
function instanceName(): string {
  return `osr-test-${process.pid}-${(serial += 1)}`;
}

function skipReason(): string | undefined {
  const reason = loopSkipReason("blkdiscard", "mkfs.ext4");
  if (reason !== undefined) return reason;
  try {
    mountedTracefs();
    return undefined;
  } catch (error) {
    return messageOf(error);
  }
}

const skip = skipReason();

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

class DirtyBlocks implements ChangeSink {
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

function openWriter(t: TestContext, disk: LoopDisk): (block: number, count: number) => void {
  const { O_WRONLY, O_DIRECT } = fs.constants;
  const fd = fs.openSync(disk.path, O_WRONLY | O_DIRECT);
  t.after(() => fs.closeSync(fd));
  const data = alignedBuffer(64 * BLOCK_BYTES).fill(0xa5);
  return (block, count) => {
    fs.writeSync(fd, data, 0, count * BLOCK_BYTES, block * BLOCK_BYTES);
  };
}

function tracked(disk: LoopDisk, ignoredRanges: { sector: number; count: number }[] = []) {
  return {
    eventDevices: [eventDeviceOf(disk)],
    sectorCount: disk.sizeBytes / 512,
    ignoredRanges,
  };
}

function startTracker(
  t: TestContext,
  disks: readonly LoopDisk[],
  options: { ringBytesPerCpu?: number; name?: string } = {},
): TracefsTracker {
  const tracker = new TracefsTracker({
    name: options.name ?? instanceName(),
    ringBytesPerCpu: options.ringBytesPerCpu ?? MIB,
  });
  for (const disk of disks) tracker.add(tracked(disk));
  t.after(() => tracker[Symbol.dispose]());
  tracker.start();
  return tracker;
}

changeTrackerContract(
  "tracefs tracker",
  (t) => {
    const loops = new LoopDisks(t);
    const disks = [loops.create(DISK_BYTES), loops.create(DISK_BYTES)];
    const writers = disks.map((disk) => openWriter(t, disk));
    const tracker = new TracefsTracker({
      name: instanceName(),
      ringBytesPerCpu: MIB,
    });
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

test("tracks exactly the blocks of random writes, discards and zeroing", { skip }, (t) => {
  const disk = new LoopDisks(t).create(DISK_BYTES);
  const write = openWriter(t, disk);
  const tracker = startTracker(t, [disk]);
  const random = randomNumbers(20_260_117);
  const expected = new DirtyBlocks();
  const seen = new DirtyBlocks();
  const counted = sysfsCounters().counterOf(disk);
  const statBefore = must(counted(), "counts");
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
  const traced = tracker.tracedSectors(0);
  assert.equal(traced.written, statAfter.written - statBefore.written);
  assert.equal(traced.discarded, statAfter.discarded - statBefore.discarded);
  assert.ok(traced.discarded > 0 && traced.written > 0);
});

for (const [type, sizeBytes, ...options] of [
  ["ext4", DISK_BYTES, "-b", "4096"],
  ["xfs", 320 * MIB],
  ["btrfs", 128 * MIB],
] as const)
  test(
    `no block of ${type} in use changes without being tracked`,
    { skip: skip || (loopSkipReason(`mkfs.${type}`) ?? false) },
    async (t) => {
      const loops = new LoopDisks(t);
      const disk = loops.create(sizeBytes);
      const folder = loops.mount(disk, type, "-q", ...options);
      const tracker = startTracker(t, [disk]);
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

test("a ring that overflows is lost, once", { skip }, (t) => {
  const disk = new LoopDisks(t).create(DISK_BYTES);
  const write = openWriter(t, disk);
  const tracker = startTracker(t, [disk], { ringBytesPerCpu: 8 * KIB });
  for (let block = 0; block < 2000; block++) write(block, 1);
  const list = new ChangeList();
  assert.equal(tracker.drain(list).lost, true);
  assert.ok(list.changes.length < 2000);
  write(1, 1);
  assert.deepEqual(tracker.drain(list), { changes: 1, lost: false });
});

test("events that the kernel drops instead of overwriting are lost too", { skip }, (t) => {
  const disk = new LoopDisks(t).create(DISK_BYTES);
  const write = openWriter(t, disk);
  const name = instanceName();
  const tracker = startTracker(t, [disk], { ringBytesPerCpu: 8 * KIB, name });
  fs.writeFileSync(`${mountedTracefs()}/instances/${name}/options/overwrite`, "0");
  for (let block = 0; block < 2000; block++) write(block, 1);
  const list = new ChangeList();
  assert.equal(tracker.drain(list).lost, true);
  assert.equal(tracker.drain(list).lost, false);
});

test("requests wholly within an ignored range are no changes", { skip }, (t) => {
  const disk = new LoopDisks(t).create(DISK_BYTES);
  const write = openWriter(t, disk);
  const tracker = startTracker(t, [disk]);
  tracker.setIgnoredRanges(0, [{ sector: 10 * BLOCK_SECTORS, count: 4 * BLOCK_SECTORS }]);
  const list = new ChangeList();
  write(10, 4);
  write(12, 1);
  assert.deepEqual(tracker.drain(list), { changes: 0, lost: false });
  write(9, 2);
  write(13, 2);
  assert.deepEqual(tracker.drain(list), { changes: 2, lost: false });
  assert.deepEqual(list.changes, ["0:72+16", "0:104+16"]);
  tracker.setIgnoredRanges(0, []);
  write(12, 1);
  assert.equal(tracker.drain(list).changes, 1);
  assert.equal(tracker.tracedSectors(0).written, (4 + 1 + 2 + 2 + 1) * BLOCK_SECTORS);
});

test("a disk that is added is tracked from there, one that is removed no more", { skip }, (t) => {
  const loops = new LoopDisks(t);
  const disks = [loops.create(DISK_BYTES), loops.create(DISK_BYTES)];
  const [first, second] = disks.map((disk) => ({ disk, write: openWriter(t, disk) }));
  assert.ok(first !== undefined && second !== undefined);
  const tracker = startTracker(t, [first.disk]);
  const list = new ChangeList();
  second.write(1, 1);
  first.write(1, 1);
  assert.equal(tracker.add(tracked(second.disk)), 1);
  second.write(2, 1);
  first.write(2, 1);
  assert.deepEqual(tracker.drain(list), { changes: 3, lost: false });
  assert.deepEqual(list.changes.toSorted(), ["0:16+8", "0:8+8", "1:16+8"]);
  tracker.remove(0);
  first.write(3, 1);
  second.write(3, 1);
  assert.deepEqual(tracker.drain(list), { changes: 1, lost: false });
  // The number of a disk that is gone may come to mean another one.
  assert.equal(tracker.add(tracked(first.disk)), 2);
  first.write(4, 1);
  tracker.drain(list);
  assert.equal(list.changes.at(-1), "2:32+8");
});

test("changes beyond the size that the tracker knows are not quiet", { skip }, (t) => {
  const disk = new LoopDisks(t).create(DISK_BYTES);
  const write = openWriter(t, disk);
  const tracker = startTracker(t, [{ ...disk, sizeBytes: MIB }]);
  const list = new ChangeList();
  write(256, 1);
  assert.deepEqual(tracker.drain(list), { changes: 1, lost: false });
  assert.deepEqual(list.changes, []);
  assert.equal(tracker.unplacedChanges, 1);
  write(255, 2);
  assert.equal(tracker.drain(list).changes, 1);
  assert.deepEqual(list.changes, ["0:2040+8"]);
});

test("the kernel's count of events read equals ours", { skip }, (t) => {
  const disk = new LoopDisks(t).create(DISK_BYTES);
  const write = openWriter(t, disk);
  const tracker = startTracker(t, [disk]);
  const list = new ChangeList();
  for (let block = 0; block < 100; block++) {
    write(block, 1);
    if (block % 10 === 0) tracker.drain(list);
  }
  tracker.drain(list);
  const [cpus = 0, lost, ...read] = keptOf(tracker).position;
  assert.equal(lost, 0);
  const sum = read.slice(0, cpus).reduce((total, count) => total + count, 0);
  assert.equal(sum, 100);
  assert.equal(list.changes.length, 100);
});

test("an instance of a dead process is replaced, one of a living process is not", { skip }, (t) => {
  const disk = new LoopDisks(t).create(DISK_BYTES);
  const name = instanceName();
  fs.mkdirSync(`${mountedTracefs()}/instances/${name}`);
  const tracker = startTracker(t, [disk], { name });
  assert.throws(() => startTracker(t, [disk], { name }), { code: "TRACKER_BUSY" });
  tracker[Symbol.dispose]();
  assert.equal(fs.existsSync(`${mountedTracefs()}/instances/${name}`), false);
});

test("more disks than a filter can name are tracked all the same", { skip }, (t) => {
  const disk = new LoopDisks(t).create(DISK_BYTES);
  const write = openWriter(t, disk);
  const others = Array.from({ length: 255 }, (_, index) => ({
    ...disk,
    major: 4000,
    minor: 100_000 + index,
  }));
  const tracker = startTracker(t, [...others, disk]);
  write(3, 1);
  const list = new ChangeList();
  assert.deepEqual(tracker.drain(list), { changes: 1, lost: false });
  assert.deepEqual(list.changes, ["255:24+8"]);
});

/** The numbers and sectors that an agent keeps after each drain. */
function keptOf(tracker: TracefsTracker): { position: Float64Array; traced: SectorCounts[] } {
  const position = new Float64Array(2048);
  tracker.savePosition(position);
  return { position, traced: [tracker.tracedSectors(0)] };
}

/** A tracker of `disk` whose process is gone without a word: its files are closed, the instance is there. */
function killedTracker(t: TestContext, disk: LoopDisk): { name: string; tracker: TracefsTracker } {
  const name = instanceName();
  t.after(() => fs.rmdirSync(`${mountedTracefs()}/instances/${name}`));
  const tracker = successorOf(name, disk);
  tracker.start();
  return { name, tracker };
}

function successorOf(name: string, disk: LoopDisk): TracefsTracker {
  const tracker = new TracefsTracker({ name, ringBytesPerCpu: MIB });
  tracker.add(tracked(disk));
  return tracker;
}

test("a successor reads what its predecessor left in the ring, and counts on", { skip }, (t) => {
  const disk = new LoopDisks(t).create(DISK_BYTES);
  const write = openWriter(t, disk);
  const { name, tracker } = killedTracker(t, disk);
  write(1, 2);
  tracker.drain(new ChangeList());
  const { position, traced } = keptOf(tracker);
  write(7, 1);
  tracker.abandon();
  write(9, 3);
  const successor = successorOf(name, disk);
  assert.ok(successor.resume(position, traced));
  const list = new ChangeList();
  assert.deepEqual(successor.drain(list), { changes: 2, lost: false });
  assert.deepEqual(list.changes, ["0:56+8", "0:72+24"]);
  assert.equal(successor.tracedSectors(0).written, 6 * BLOCK_SECTORS);
  successor.abandon();
});

test(
  "a successor does not go on where a drain was cut short, or nothing is left",
  { skip },
  (t) => {
    const disk = new LoopDisks(t).create(DISK_BYTES);
    const write = openWriter(t, disk);
    const { name, tracker } = killedTracker(t, disk);
    const { position, traced } = keptOf(tracker);
    write(1, 1);
    tracker.drain(new ChangeList());
    const newest = keptOf(tracker);
    tracker.abandon();
    assert.equal(successorOf(name, disk).resume(position, traced), false);
    const other = { ...disk, minor: disk.minor + 1 };
    assert.equal(successorOf(name, other).resume(newest.position, traced), false);
    assert.equal(successorOf(instanceName(), disk).resume(position, traced), false);
  },
);

test("events that the ring lost while nobody read are known to be lost", { skip }, (t) => {
  const disk = new LoopDisks(t).create(DISK_BYTES);
  const write = openWriter(t, disk);
  const name = instanceName();
  t.after(() => fs.rmdirSync(`${mountedTracefs()}/instances/${name}`));
  const options = { name, ringBytesPerCpu: 16 * KIB, disks: [tracked(disk)] };
  const tracker = new TracefsTracker(options);
  tracker.start();
  tracker.drain(new ChangeList());
  const { position, traced } = keptOf(tracker);
  tracker.abandon();
  for (let times = 0; times < 4000; times++) write(times % 100, 1);
  const successor = new TracefsTracker(options);
  assert.ok(successor.resume(position, traced));
  assert.equal(successor.drain(new ChangeList()).lost, true);
  successor.abandon();
});
