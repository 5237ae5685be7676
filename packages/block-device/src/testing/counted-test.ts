import { type TestContext, test } from "node:test";

import type { ChangeTracker, SectorCounts } from "../change-tracker.ts";
import { sysfsCounters } from "../sysfs-counters.ts";

const ATTEMPTS_MAX = 5;

/** A tracker of some disks, by their disk index; from when on is taken from now, or from an earlier one that it goes on for. */
export type Watch = (tracker: ChangeTracker, disks: readonly { readonly name: string }[]) => void;

type Watched = {
  readonly tracker: ChangeTracker;
  readonly name: string;
  readonly index: number;
};

/**
 * A test of what a tracker brings. Some kernels hide from programs what completes while certain tasks are interrupted, such as
 * the supervisor of a sandbox (seen there: some 3 of 100,000 requests). Then the kernel's own counters disagree with those of the tracker, as the
 * mobility service would see, and the test is run again. Where they agree, or do not for five times, the failure stands.
 */
export function countedTest(
  name: string,
  skip: string | undefined,
  body: (t: TestContext, watch: Watch) => void | Promise<void>,
): void {
  test(name, { skip: skip ?? false }, async (t) => {
    for (let attempt = 1; ; attempt++) {
      const watched: Watched[] = [];
      const before = new Map<string, SectorCounts | undefined>();
      const watch: Watch = (tracker, disks) => {
        for (const [index, disk] of disks.entries()) {
          if (!before.has(disk.name)) before.set(disk.name, sysfsCounters().counterOf(disk)());
          watched.push({ tracker, name: disk.name, index });
        }
      };
      try {
        return await body(t, watch);
      } catch (error) {
        const hidden = watched.filter((each) => missed(each, before.get(each.name)) > 0);
        if (hidden.length === 0 || attempt === ATTEMPTS_MAX) throw error;
        t.diagnostic(`the kernel counted more than it showed to the tracker, attempt ${attempt}`);
      }
    }
  });
}

/** Sectors that the kernel counted and the tracker did not. */
function missed({ tracker, name, index }: Watched, before: SectorCounts | undefined): number {
  const now = sysfsCounters().counterOf({ name })();
  if (now === undefined || before === undefined) return 0;
  try {
    const traced = tracker.tracedSectors(index);
    return (
      now.written -
      before.written -
      traced.written +
      (now.discarded - before.discarded - traced.discarded)
    );
  } catch {
    // It is closed; who came after it is asked.
    return 0;
  }
}
