import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";

import { bitsWithin, lowestBit } from "@osr/base/bits";
import { BLOCK_BYTES } from "@osr/base/block-range";

import type { ChangeSink, ChangeTracker, DrainResult, SectorCounts } from "./change-tracker.ts";

/** A tracker, not started yet, and a way to write to its disks, of at least two, each of at least 1,024 sectors. */
export type TrackedWorld = {
  readonly tracker: ChangeTracker;
  /** Completes one write request. */
  readonly write: (diskIndex: number, sector: number, sectorCount: number) => void;
};

export const BLOCK_SECTORS = BLOCK_BYTES / 512;

/** Hears of each run of bits, from the lowest on: its first and the one behind its last. */
export function eachRun(bits: number, hear: (start: number, end: number) => void): void {
  for (let rest = bits; rest !== 0;) {
    const start = lowestBit(rest);
    const after = ~(rest >>> start);
    const end = after === 0 ? 32 : Math.min(32, start + lowestBit(after));
    hear(start, end);
    rest &= ~bitsWithin(start, end);
  }
}

/** A sink that hears of blocks as of sectors, in runs that end where a word does. */
export abstract class SectorSink implements ChangeSink {
  abstract changed(diskIndex: number, sector: number, sectorCount: number): void;

  changedBlocks(diskIndex: number, firstBlock: number, bits: number): void {
    assert.equal(firstBlock % 32, 0);
    eachRun(bits, (start, end) => {
      this.changed(diskIndex, (firstBlock + start) * BLOCK_SECTORS, (end - start) * BLOCK_SECTORS);
    });
  }
}

/** A sink that keeps what it gets, one text a change. */
export class ChangeList extends SectorSink {
  readonly changes: string[] = [];

  changed(diskIndex: number, sector: number, sectorCount: number): void {
    this.changes.push(`${diskIndex}:${sector}+${sectorCount}`);
  }
}

function drained(tracker: ChangeTracker): DrainResult & { readonly list: readonly string[] } {
  const list = new ChangeList();
  return { ...tracker.drain(list), list: list.changes.toSorted() };
}

/** What a tracker has counted of its first disk, now that nothing changes it: it may have to look more than once. */
export function settled(tracker: ChangeTracker): SectorCounts {
  for (let looks = 0; looks < 5; looks++) {
    const counts = tracker.settledSectors(0);
    if (counts !== undefined) return counts;
  }
  assert.fail("it cannot tell what it has counted");
}

/** The law of ChangeTracker, for every provider and every fake. */
export function changeTrackerContract(
  name: string,
  open: (t: TestContext) => TrackedWorld,
  options: { readonly skip?: string | undefined } = {},
): void {
  const skip = options.skip ?? false;

  test(`${name}: what is written between two drains appears in the second, once`, { skip }, (t) => {
    const { tracker, write } = open(t);
    tracker.start();
    assert.deepEqual(drained(tracker), { changes: 0, lost: false, list: [] });
    write(0, 64, 8);
    write(1, 128, 16);
    const first = drained(tracker);
    assert.deepEqual(first.list, ["0:64+8", "1:128+16"]);
    assert.ok(first.changes > 0 && !first.lost);
    write(0, 64, 8);
    assert.deepEqual(drained(tracker), { changes: 1, lost: false, list: ["0:64+8"] });
    assert.deepEqual(drained(tracker), { changes: 0, lost: false, list: [] });
  });

  test(`${name}: what was written before the start does not appear`, { skip }, (t) => {
    const { tracker, write } = open(t);
    write(0, 8, 8);
    tracker.start();
    assert.deepEqual(drained(tracker), { changes: 0, lost: false, list: [] });
  });

  test(`${name}: writing the same place again is a change again`, { skip }, (t) => {
    const { tracker, write } = open(t);
    tracker.start();
    for (const _ of [1, 2]) {
      write(1, 256, 8);
      assert.notEqual(drained(tracker).changes, 0);
    }
  });

  test(`${name}: every sector written is counted, also where it was before`, { skip }, (t) => {
    const { tracker, write } = open(t);
    tracker.start();
    drained(tracker);
    const before = settled(tracker).written;
    write(0, 64, 8);
    write(0, 64, 16);
    drained(tracker);
    assert.equal(settled(tracker).written, before + 24);
  });
}
