import { assert, must } from "@osr/base/assert";
import { INTERVALS_OPEN_MAX } from "@osr/contracts/agent-protocol";

import type { DirtyMemory } from "./dirty-memory.ts";
import { DirtySet } from "./dirty-set.ts";

/** Blocks that were taken for intervals that are not vaulted yet. */
type OpenInterval = {
  /** Highest interval number that the set covers. */
  through: number;
  readonly set: DirtySet;
};

/**
 * What the agent knows about a disk that the storage account does not have yet: one live set, and one set per interval that
 * is not vaulted. These sets are the agent's only buffer, so the law is:
 * - a block enters its interval's set before it leaves the live one, and both before it is read;
 * - an interval's set is forgotten only when the interval is vaulted;
 * - when a session is lost, every set that is not vaulted returns to the live one.
 */
export class DiskDirtyState {
  readonly live: DirtySet;
  /** Start of the run that `take` took last. */
  runStart = 0;
  readonly #memory: DirtyMemory;
  /** Oldest first; at most INTERVALS_OPEN_MAX. */
  readonly #open: OpenInterval[] = [];

  constructor(blockCount: number, memory: DirtyMemory) {
    this.#memory = memory;
    this.live = new DirtySet(blockCount, memory, { isLive: true });
  }

  get openIntervals(): number {
    return this.#open.length;
  }

  /** Opens a set for `interval`, which is above all earlier ones; where there are too many, the two oldest become one. */
  begin(interval: number): void {
    assert(interval > (this.#open.at(-1)?.through ?? 0), "interval numbers grow");
    if (this.#open.length === INTERVALS_OPEN_MAX) this.#mergeOldest();
    const set = new DirtySet(this.live.blockCount, this.#memory, { isLive: false });
    this.#open.push({ through: interval, set });
  }

  /**
   * Moves the first live run that ends after `from` into the newest interval. Returns its blocks, at most `countMax`, from
   * `runStart` on; 0 where there is none that fits, see DirtySet.findRun.
   */
  take(from: number, countMax: number): number {
    const count = this.live.findRun(from, countMax);
    if (count === 0) return 0;
    this.runStart = this.live.runStart;
    must(this.#open.at(-1), "an interval is open").set.add(this.runStart, count);
    this.live.remove(this.runStart, count);
    return count;
  }

  /** Forgets what is vaulted up to and with `interval`. */
  vaulted(interval: number): void {
    while (this.#open.length > 0 && must(this.#open[0], "oldest").through <= interval)
      must(this.#open.shift(), "oldest").set.dispose();
  }

  /** Returns all that is not vaulted to the live set. */
  returnAll(): void {
    for (const { set } of this.#open.splice(0)) {
      this.live.addSet(set);
      set.dispose();
    }
  }

  #mergeOldest(): void {
    const oldest = must(this.#open.shift(), "oldest");
    const next = must(this.#open[0], "next");
    next.set.addSet(oldest.set);
    oldest.set.dispose();
  }
}
