/** Sums of one drain, over all disks of the tracker. */
export type DrainResult = {
  /** Events that changed sectors outside ignored ranges (W, D and N requests): zero means a quiet drain. */
  readonly changes: number;
  /** True where the kernel dropped events: dirty sets can no longer be trusted for any disk. */
  readonly lost: boolean;
};

/** Receives what changed. Called many times a drain; must not allocate or throw. */
export type ChangeSink = {
  /** Sectors of 512 bytes, absolute on the whole disk. */
  changed(diskIndex: number, sector: number, sectorCount: number): void;
};

/**
 * Learns which sectors of some disks change. The law:
 * - from `start` on, every completed write, discard and write-zeroes request of the disks appears in a later drain,
 *   however it was issued, unless that drain or an earlier one says `lost`;
 * - a request appears only after its data is on the device, so what is read after its drain is at least as new;
 * - `drain` is synchronous, does not block, writes nothing and starts nothing: it runs while file systems are frozen.
 */
export interface ChangeTracker extends Disposable {
  start(): void;
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
  /** Sectors of the requests of a disk that drains have brought since the start, for comparison with KernelCounters. */
  tracedSectors(diskIndex: number): SectorCounts;
}

/** Sectors of 512 bytes. Swap counts, too. */
export type SectorCounts = {
  /** Writes and write-zeroes: the kernel counts both as sectors written. */
  readonly written: number;
  readonly discarded: number;
};

/** What the kernel itself counts, by which a tracker is checked. Reading is synchronous and takes microseconds. */
export interface KernelCounters {
  /** Sectors that requests of a disk have completed since some moment; undefined where the kernel does not count. */
  countedSectors(diskIndex: number): SectorCounts | undefined;
}
