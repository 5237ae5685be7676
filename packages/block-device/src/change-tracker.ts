/** Sums of one drain, over all disks of the tracker. */
export type DrainResult = {
  /** Changes outside ignored ranges, in requests or in granules as the tracker has them: zero means a quiet drain. */
  readonly changes: number;
  /** True where the kernel dropped events: dirty sets can no longer be trusted for any disk. */
  readonly lost: boolean;
};

/** Receives what changed. Called many times a drain; must not allocate or throw. */
export type ChangeSink = {
  /** Sectors of 512 bytes, absolute on the whole disk. */
  changed(diskIndex: number, sector: number, sectorCount: number): void;
  /**
   * For trackers that know no more than blocks of 4 KiB: of the 32 from `firstBlock` on, a multiple of 32, those whose bits are
   * set. The last one may reach beyond the end of the disk.
   */
  changedBlocks(diskIndex: number, firstBlock: number, bits: number): void;
};

/** Sectors of 512 bytes, absolute on the whole disk. */
export type SectorRange = { readonly sector: number; readonly count: number };

/** A disk whose changes are to be tracked. */
export type TrackedDisk = {
  /** Device numbers of its events, see `eventDeviceOf` and `learnEventDevices`. Several where it has several paths. */
  readonly eventDevices: readonly number[];
  readonly sectorCount: number;
  /** Requests wholly within one of these (swap) are no changes. */
  readonly ignoredRanges: readonly SectorRange[];
};

/**
 * Learns which sectors of some disks change. The law:
 * - from `start`, or from `add` where that is later, every completed write, discard and write-zeroes request of the disks appears in a later drain,
 *   however it was issued, unless that drain or an earlier one says `lost`;
 * - a request appears only after its data is on the device, so what is read after its drain is at least as new;
 * - `drain` is synchronous, does not block, writes nothing and starts nothing: it runs while file systems are frozen.
 */
export interface ChangeTracker extends Disposable {
  /** How long whoever uses it may wait from drain to drain: longer, and what it keeps may overflow on a busy disk. */
  readonly drainEveryMs: number;
  start(): void;
  /** Tracks one more disk; returns its disk index, which counts from 0 and is never given twice. */
  add(disk: TrackedDisk): number;
  /** Tracks a disk no more: its device numbers may come to mean another one. */
  remove(diskIndex: number): void;
  /**
   * Replaces the ranges of a disk whose requests are no changes. Whoever removes a range (swapoff) must take all of it for
   * changed: what was written there since, and before this call, was ignored.
   */
  setIgnoredRanges(diskIndex: number, ranges: readonly SectorRange[]): void;
  drain(sink: ChangeSink): DrainResult;
  /**
   * Writes down how far the drains have read, as numbers for `resume`; `target` has room for 2048 of them, those of some
   * hundred CPUs. Synchronous, allocates nothing.
   */
  savePosition(target: Float64Array): void;
  /**
   * Instead of `start`: goes on where an earlier process of this boot had read to, also after it was killed. What changed
   * since is in the next drain, or it says `lost`. `traced`: for each disk, what that process had traced. False where
   * events may be missing otherwise; then nothing is tracked yet.
   */
  resume(position: Float64Array, traced: readonly SectorCounts[]): boolean;
  /** Sectors of the requests of a disk that drains have brought since the start. */
  tracedSectors(diskIndex: number): SectorCounts;
  /**
   * The same for comparison with KernelCounters, at a moment when they stand still. Undefined where the tracker cannot tell
   * about the time since it was asked last: it counts anew from here.
   */
  settledSectors(diskIndex: number): SectorCounts | undefined;
  /**
   * The kernel counted changes of some disk that were not in any drain: a tracker that can go on by better means does so.
   * Touches no disk, and allocates.
   */
  mismatched(): void;
}

/** Sectors of 512 bytes. Swap counts, too. */
export type SectorCounts = {
  /** Writes and write-zeroes: the kernel counts both as sectors written. */
  readonly written: number;
  readonly discarded: number;
};

/** What the kernel itself counts, by which a tracker is checked. */
export interface KernelCounters {
  counterOf(disk: { readonly name: string }): DiskCounter;
}

/**
 * Sectors that requests of a disk have completed since some moment; undefined where the kernel does not count. Synchronous,
 * takes microseconds.
 */
export type DiskCounter = () => SectorCounts | undefined;
