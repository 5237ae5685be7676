import assert from "node:assert/strict";
import fs from "node:fs";
import { type TestContext, test } from "node:test";

import { KIB, MIB } from "@osr/base/units";

import { BLOCK_SECTORS, ChangeList } from "./change-tracker.contract.ts";
import {
  DISK_BYTES,
  keptOf,
  loopTrackerContract,
  openWriter,
  tracked,
  trackerName,
  trackerSkipReason,
} from "./loop-tracker.contract.ts";
import { type LoopDisk, LoopDisks } from "./testing/loop-disk.ts";
import { mountedTracefs } from "./tracefs.ts";
import { TracefsTracker } from "./tracefs-tracker.ts";

const skip = trackerSkipReason(mountedTracefs);

loopTrackerContract(
  "tracefs tracker",
  (name) => new TracefsTracker({ name, ringBytesPerCpu: MIB }),
  skip,
);

function startTracker(
  t: TestContext,
  disks: readonly LoopDisk[],
  options: { ringBytesPerCpu?: number; name?: string } = {},
): TracefsTracker {
  const tracker = new TracefsTracker({
    name: options.name ?? trackerName(),
    ringBytesPerCpu: options.ringBytesPerCpu ?? MIB,
  });
  for (const disk of disks) tracker.add(tracked(disk));
  t.after(() => tracker[Symbol.dispose]());
  tracker.start();
  return tracker;
}

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
  const name = trackerName();
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
  // Sorted: each CPU has a ring of its own, and which of them took a request is not ours to say.
  assert.deepEqual(list.changes.toSorted(), ["0:104+16", "0:72+16"]);
  tracker.setIgnoredRanges(0, []);
  write(12, 1);
  assert.equal(tracker.drain(list).changes, 1);
  assert.equal(tracker.tracedSectors(0).written, (4 + 1 + 2 + 2 + 1) * BLOCK_SECTORS);
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
  const name = trackerName();
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

/** A tracker of `disk` whose process is gone without a word: its files are closed, the instance is there. */
function killedTracker(t: TestContext, disk: LoopDisk): { name: string; tracker: TracefsTracker } {
  const name = trackerName();
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
  assert.deepEqual(list.changes.toSorted(), ["0:56+8", "0:72+24"]);
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
    assert.equal(successorOf(trackerName(), disk).resume(position, traced), false);
  },
);

test("events that the ring lost while nobody read are known to be lost", { skip }, (t) => {
  const disk = new LoopDisks(t).create(DISK_BYTES);
  const write = openWriter(t, disk);
  const name = trackerName();
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
