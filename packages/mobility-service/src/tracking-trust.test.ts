import assert from "node:assert/strict";
import { test } from "node:test";

import type { SectorCounts } from "@osr/block-device/change-tracker";

import { ChangeIntake } from "./change-intake.ts";
import { VirtualTime } from "./testing/virtual-time.ts";
import { TrackingTrust } from "./tracking-trust.ts";

/** One disk, a tracker and a kernel that count what the test says. */
class Bench {
  readonly time = new VirtualTime();
  readonly reasons: string[] = [];
  traced: SectorCounts | undefined = { written: 0, discarded: 0 };
  /** Of each look of the kernel's counters, first to last; then the last one. */
  counted: (SectorCounts | undefined)[] = [{ written: 1000, discarded: 8 }];
  lost = false;
  mismatches = 0;
  readonly trust: TrackingTrust;
  readonly intake: ChangeIntake;

  constructor() {
    const tracker = {
      drain: () => ({ changes: 0, lost: this.lost }),
      settledSectors: () => this.traced,
      mismatched: () => {
        this.mismatches += 1;
      },
    };
    this.trust = new TrackingTrust({ tracker, clock: this.time });
    this.trust.add(0, () => (this.counted.length > 1 ? this.counted.shift() : this.counted[0]));
    const disk = {
      changed: () => undefined,
      changedBlocks: () => undefined,
      distrust: (reason: string) => void this.reasons.push(reason),
    };
    this.intake = new ChangeIntake(tracker, { trust: this.trust });
    this.intake.add(0, disk);
  }

  /** Checked drains for `ms`, one each 100 ms; what the last one said. */
  drains(ms: number): unknown {
    let last: unknown;
    for (let at = 0; at < ms; at += 100) {
      last = this.intake.checkedDrain();
      this.time.pass(100);
    }
    return last;
  }
}

test("what was traced must grow as the kernel's count; what was before does not matter", () => {
  const bench = new Bench();
  assert.equal(bench.drains(1000), 0);
  bench.traced = { written: 16, discarded: 0 };
  bench.counted = [{ written: 1016, discarded: 8 }];
  assert.equal(bench.drains(1000), 0);
  bench.traced = { written: 16, discarded: 8 };
  assert.equal(bench.drains(100), "mismatch");
  assert.deepEqual(bench.reasons, []);
  bench.counted = [{ written: 1016, discarded: 16 }];
  assert.equal(bench.drains(2000), 0);
  assert.deepEqual(bench.reasons, []);
});

test("a mismatch that lasts is told once, and tracking is trusted anew from there", () => {
  const bench = new Bench();
  bench.drains(100);
  bench.counted = [{ written: 1008, discarded: 8 }];
  assert.equal(bench.drains(400), "mismatch");
  assert.deepEqual(bench.reasons, []);
  assert.equal(bench.drains(3000), 0);
  assert.deepEqual(bench.reasons, ["TRACKING_MISMATCH"]);
  assert.equal(bench.mismatches, 1);
});

test("where the tracker cannot tell, that look says nothing and counting begins anew", () => {
  const bench = new Bench();
  bench.drains(100);
  bench.traced = undefined;
  bench.counted = [{ written: 9000, discarded: 8 }];
  assert.equal(bench.drains(2000), 0);
  bench.traced = { written: 16, discarded: 0 };
  assert.equal(bench.drains(2000), 0);
  bench.counted = [{ written: 9008, discarded: 8 }];
  assert.equal(bench.drains(100), "mismatch");
});

test("a look during which the kernel counted, or does not count at all, says nothing", () => {
  const bench = new Bench();
  bench.drains(100);
  bench.traced = { written: 800, discarded: 0 };
  bench.counted = Array.from({ length: 41 }, (_, at) => ({ written: 1000 + at, discarded: 8 }));
  assert.equal(bench.drains(2000), 0);
  bench.counted = [undefined];
  assert.equal(bench.drains(2000), 0);
  assert.deepEqual(bench.reasons, []);
});

test("a disk that is gone is looked at no more", () => {
  const bench = new Bench();
  bench.drains(100);
  bench.counted = [{ written: 1008, discarded: 8 }];
  bench.intake.remove(0);
  assert.equal(bench.drains(2000), 0);
  bench.lost = true;
  assert.equal(bench.intake.drain(), "lost");
  assert.deepEqual(bench.reasons, []);
});

test("checks are due each second while all agrees, and at once where it does not", () => {
  const bench = new Bench();
  assert.equal(bench.intake.isCheckDue, true);
  bench.intake.checkedDrain();
  assert.equal(bench.intake.isCheckDue, false);
  bench.time.pass(1000);
  assert.equal(bench.intake.isCheckDue, true);
  bench.traced = { written: 8, discarded: 0 };
  bench.intake.checkedDrain();
  assert.equal(bench.intake.isCheckDue, true);
});

test("after lost events what was traced counts from there", () => {
  const bench = new Bench();
  bench.drains(100);
  bench.counted = [{ written: 5000, discarded: 8 }];
  bench.lost = true;
  assert.equal(bench.intake.checkedDrain(), "lost");
  bench.lost = false;
  assert.equal(bench.drains(2000), 0);
  assert.deepEqual(bench.reasons, ["TRACKING_LOST"]);
});
