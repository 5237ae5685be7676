import assert from "node:assert/strict";
import fs from "node:fs";
import type { TestContext } from "node:test";

import { MIB } from "@osr/base/units";

import { BLOCK_SECTORS, ChangeList, settled } from "./change-tracker.contract.ts";
import {
  DISK_BYTES,
  keptOf,
  loopTrackerContract,
  openWriter,
  tracked,
  trackerName,
  trackerSkipReason,
} from "./loop-tracker.contract.ts";
import { SystemTracker, type TrackingMeans, removeSystemTracker } from "./system-tracker.ts";
import { countedTest } from "./testing/counted-test.ts";
import { type LoopDisk, LoopDisks } from "./testing/loop-disk.ts";

const skip = trackerSkipReason(() => {
  using tracker = new SystemTracker({ name: trackerName(), ringBytesPerCpu: MIB });
  tracker.start();
});

loopTrackerContract("system", (name) => new SystemTracker({ name, ringBytesPerCpu: MIB }), skip);

/** A tracker that was not started yet, of a disk of its own. */
function openedOnNewDisk(t: TestContext) {
  const disk = new LoopDisks(t).create(DISK_BYTES);
  const name = trackerName();
  return { disk, name, write: openWriter(t, disk), ...opened(t, name, disk) };
}

function opened(t: TestContext, name: string, disk: LoopDisk) {
  const means: TrackingMeans[] = [];
  const tracker = new SystemTracker({
    name,
    ringBytesPerCpu: MIB,
    onMeans: (each) => void means.push(each),
  });
  t.after(() => tracker[Symbol.dispose]());
  tracker.add(tracked(disk));
  return { tracker, means };
}

countedTest(
  "after a mismatch it goes on by trace events, and nothing is left out",
  skip,
  (t, watch) => {
    const { disk, name, write, tracker, means } = openedOnNewDisk(t);
    const gone = tracker.add({ ...tracked(disk), eventDevices: [1] });
    tracker.remove(gone);
    watch(tracker, [disk]);
    tracker.start();
    write(1, 1);
    tracker.mismatched();
    write(3, 1);
    const list = new ChangeList();
    // What came after the change may be told by both.
    assert.equal(tracker.drain(list).lost, false);
    assert.deepEqual(new Set(list.changes), new Set(["0:8+8", "0:24+8"]));
    assert.equal(means.at(-1), "trace events");
    // Counting begins anew, which is said once.
    if (means[0] === "kernel program") assert.equal(tracker.settledSectors(0), undefined);
    const before = settled(tracker).written;
    write(5, 2);
    tracker.mismatched();
    assert.deepEqual(tracker.drain(list), { changes: 1, lost: false });
    assert.equal(settled(tracker).written, before + 2 * BLOCK_SECTORS);
    tracker[Symbol.dispose]();
    for (const folder of ["/sys/fs/bpf", "/sys/kernel/tracing/instances"])
      assert.equal(fs.existsSync(`${folder}/${name}`), false);
  },
);

countedTest("a successor goes on by the means of its predecessor", skip, (t, watch) => {
  const disk = new LoopDisks(t).create(DISK_BYTES);
  const write = openWriter(t, disk);
  for (const isMismatched of [false, true]) {
    const name = trackerName();
    t.after(() => removeSystemTracker(name));
    const { tracker } = opened(t, name, disk);
    watch(tracker, [disk]);
    tracker.start();
    if (isMismatched) tracker.mismatched();
    tracker.drain(new ChangeList());
    const { position, traced } = keptOf(tracker);
    tracker.abandon();
    write(7, 1);
    const successor = opened(t, name, disk);
    watch(successor.tracker, [disk]);
    assert.ok(successor.tracker.resume(position, traced));
    const list = new ChangeList();
    successor.tracker.drain(list);
    assert.deepEqual(list.changes, ["0:56+8"]);
    if (isMismatched) assert.equal(successor.means.at(-1), "trace events");
    successor.tracker.abandon();
  }
});

countedTest(
  "trace events that a predecessor had begun, but not yet read, end where its programs go on",
  skip,
  (t, watch) => {
    const { disk, name, write, tracker, means } = openedOnNewDisk(t);
    watch(tracker, [disk]);
    tracker.start();
    tracker.drain(new ChangeList());
    const { position, traced } = keptOf(tracker);
    tracker.mismatched();
    write(7, 1);
    tracker.abandon();
    const successor = opened(t, name, disk);
    t.after(() => removeSystemTracker(name));
    watch(successor.tracker, [disk]);
    assert.ok(successor.tracker.resume(position, traced));
    const list = new ChangeList();
    successor.tracker.drain(list);
    assert.deepEqual(list.changes, ["0:56+8"]);
    const isByPrograms = means[0] === "kernel program";
    assert.equal(successor.means.at(-1), means[0]);
    assert.equal(fs.existsSync(`/sys/kernel/tracing/instances/${name}`), !isByPrograms);
    successor.tracker.abandon();
  },
);
