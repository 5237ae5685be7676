import { assert, must } from "@osr/base/assert";
import { INTERVALS_OPEN_MAX } from "@osr/contracts/agent-protocol";

import type { DirtyMemory } from "./dirty-memory.ts";
import { DirtySet } from "./dirty-set.ts";
import type { KeptDisk } from "./kept-disk.ts";
import type { KeptRuns } from "./kept-runs.ts";

/** Blocks that were taken for intervals that are not vaulted yet. */
type OpenInterval = {
  /** Highest interval number that the set covers. */
  through: number;
  readonly set: DirtySet;
  /** Its place among the kept sets. */
  readonly index: number;
};

/**
 * What the agent knows about a disk that the storage account does not have yet: one live set, and one set per interval that
 * is not vaulted. These sets are the agent's only buffer, so the law is:
 * - a block enters the list of its batch and its interval's set before it leaves the live one, and all of that before it is
 *   read;
 * - an interval's set is forgotten only when the interval is vaulted;
 * - what a batch holds that was never acknowledged returns to the live set;
 * - where the process server has not all that it acknowledged, every set that is not vaulted returns to the live one.
 */
export class DiskDirtyState {
  readonly live: DirtySet;
  /** Start of the run that `take` took last. */
  runStart = 0;
  readonly #memory: DirtyMemory;
  readonly #kept: KeptDisk;
  /** Oldest first; at most INTERVALS_OPEN_MAX. */
  readonly #open: OpenInterval[] = [];
  #returnedBlocks = 0;

  private constructor(live: DirtySet, memory: DirtyMemory, kept: KeptDisk) {
    this.live = live;
    this.#memory = memory;
    this.#kept = kept;
  }

  /** Of a disk of which nothing is known: all of it is dirty. */
  static begin(blockCount: number, memory: DirtyMemory, kept: KeptDisk): DiskDirtyState {
    const live = new DirtySet(blockCount, memory, { isLive: true, table: kept.liveTable });
    live.addAll();
    return new DiskDirtyState(live, memory, kept);
  }

  /** As an earlier process left it. Undefined where that makes no sense. */
  static adopt(
    blockCount: number,
    memory: DirtyMemory,
    kept: KeptDisk,
  ): DiskDirtyState | undefined {
    const adopt = (table: Uint32Array, isLive: boolean): DirtySet | undefined =>
      DirtySet.adopt(blockCount, memory, { isLive, table });
    const live = adopt(kept.liveTable, true);
    if (live === undefined) return undefined;
    const state = new DiskDirtyState(live, memory, kept);
    for (const [index, through] of kept.throughs.entries()) {
      const set = through === 0 ? undefined : adopt(kept.intervalTable(index), false);
      if (through !== 0 && set === undefined) return undefined;
      if (set !== undefined) state.#open.push({ through, set, index });
    }
    state.#open.sort((a, b) => a.through - b.through);
    return state;
  }

  /** Highest interval that a set is for; 0 where there is none. */
  get newestInterval(): number {
    return this.#open.at(-1)?.through ?? 0;
  }

  get openIntervals(): number {
    return this.#open.length;
  }

  /** Blocks of intervals that became live again without having changed: what they hold is sent a second time. */
  get returnedBlocks(): number {
    return this.#returnedBlocks;
  }

  /** Opens a set for `interval`, which is above all earlier ones; where there are too many, the two oldest become one. */
  begin(interval: number): void {
    assert(interval > this.newestInterval, "interval numbers grow");
    if (this.#open.length === INTERVALS_OPEN_MAX) this.#mergeOldest();
    const index = this.#kept.throughs.indexOf(0);
    const table = this.#kept.intervalTable(index).fill(0);
    const set = new DirtySet(this.live.blockCount, this.#memory, { isLive: false, table });
    this.#kept.throughs[index] = interval;
    this.#open.push({ through: interval, set, index });
  }

  /**
   * Moves the first live run that ends after `from` into `runs` and the newest interval. Returns its blocks, at most
   * `countMax`, from `runStart` on; 0 where there is none that fits, see DirtySet.findRun.
   */
  take(from: number, countMax: number, runs: KeptRuns): number {
    const count = this.live.findRun(from, countMax);
    if (count === 0) return 0;
    this.runStart = this.live.runStart;
    runs.add(this.#kept.slot, this.runStart, count);
    must(this.#open.at(-1), "an interval is open").set.add(this.runStart, count);
    this.live.remove(this.runStart, count);
    return count;
  }

  /** Forgets what is vaulted up to and with `interval`. */
  vaulted(interval: number): void {
    while (this.#open.length > 0 && must(this.#open[0], "oldest").through <= interval)
      this.#drop(must(this.#open.shift(), "oldest"));
  }

  /** Returns a run that was taken and never acknowledged. */
  returnRun(start: number, count: number): void {
    this.live.add(start, count);
  }

  /** Returns all that is not vaulted to the live set. */
  returnAll(): void {
    const { blocks } = this.live;
    for (const open of this.#open.splice(0)) {
      this.live.addSet(open.set);
      this.#drop(open);
    }
    this.#returnedBlocks += this.live.blocks - blocks;
  }

  /** Forgets everything: what is dirty will be found by its content. */
  clear(): void {
    for (const open of this.#open.splice(0)) this.#drop(open);
    this.live.clear();
  }

  dispose(): void {
    for (const open of this.#open.splice(0)) this.#drop(open);
    this.live.dispose();
  }

  #mergeOldest(): void {
    const oldest = must(this.#open.shift(), "oldest");
    must(this.#open[0], "next").set.addSet(oldest.set);
    this.#drop(oldest);
  }

  #drop({ set, index }: OpenInterval): void {
    this.#kept.throughs[index] = 0;
    set.dispose();
  }
}
