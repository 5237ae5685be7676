import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";

import type { ChangeSink, ChangeTracker, DrainResult } from "./change-tracker.ts";

/** A tracker, not started yet, and a way to write to its disks, of at least two, each of at least 1,024 sectors. */
export type TrackedWorld = {
  readonly tracker: ChangeTracker;
  /** Completes one write request. */
  readonly write: (diskIndex: number, sector: number, sectorCount: number) => void;
};

/** A sink that keeps what it gets, one text a change. */
export class ChangeList implements ChangeSink {
  readonly changes: string[] = [];

  changed(diskIndex: number, sector: number, sectorCount: number): void {
    this.changes.push(`${diskIndex}:${sector}+${sectorCount}`);
  }
}

function drained(tracker: ChangeTracker): DrainResult & { readonly list: readonly string[] } {
  const list = new ChangeList();
  return { ...tracker.drain(list), list: list.changes.toSorted() };
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
    assert.deepEqual(first, { changes: 2, lost: false, list: ["0:64+8", "1:128+16"] });
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

  test(`${name}: writing the same place twice counts twice`, { skip }, (t) => {
    const { tracker, write } = open(t);
    tracker.start();
    write(1, 256, 8);
    write(1, 256, 8);
    assert.equal(drained(tracker).changes, 2);
  });
}
