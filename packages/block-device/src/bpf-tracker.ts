import { assert, must } from "@osr/base/assert";
import { bitCount, bitsWithin, lowestBit } from "@osr/base/bits";
import { KIB, MIB } from "@osr/base/units";

import { BpfCalls } from "./bpf-calls.ts";
import { BpfFolder } from "./bpf-folder.ts";
import type {
  ChangeSink,
  ChangeTracker,
  DrainResult,
  SectorCounts,
  SectorRange,
  TrackedDisk,
} from "./change-tracker.ts";
import { DirtyBitmap, type GranuleSink } from "./dirty-bitmap.ts";
import { BLOCK_SHIFT, bytesOf, dirtyBitmapLayout } from "./dirty-bitmap-layout.ts";
import type { SharedMapping } from "./foreign-functions.ts";
import {
  type KernelDisk,
  KernelTracking,
  LAYOUT_VERSION,
  PROGRAMS,
  SLOTS,
} from "./kernel-tracking.ts";
import { KernelTypes } from "./kernel-types.ts";
import { WitnessCounts } from "./witness-counts.ts";

/** Of the kernel's memory, for the bitmaps of all disks: 1 TiB in granules of 4 KiB, marks of groups included. Each disk may take half of what is left. */
const BITMAP_BYTES_MAX = 33 * MIB;
/** Where nothing is left, granules are as large as it takes. */
const BITMAP_BYTES_MIN = 64 * KIB;

/**
 * Nothing overflows; what changes often is told once. Points drain for themselves, so this only delays the copying of what changed.
 * At 250 ms, draining what changed was half of what tracking cost a disk of 256 MiB under random writes.
 */
const DRAIN_EVERY_MS = 500;

type RunningDisk = {
  readonly tracked: TrackedDisk;
  readonly kernel: KernelDisk;
  readonly memory: SharedMapping;
  readonly bitmap: DirtyBitmap;
  readonly counts: WitnessCounts;
  readonly sink: GranuleSink;
  ignored: readonly GranuleRange[];
  unplaced: number;
};

/** Granules, from the first to the one before the end. */
type GranuleRange = { readonly start: number; readonly end: number };

/**
 * Tracks changes by programs of ours that the kernel runs at the completion of each request, and that set bits in memory which
 * this process has mapped: no event is recorded, so none is lost, however long nobody looks, and what changes costs the kernel
 * some hundred nanoseconds less than a trace event. No kernel module, no compiler. The programs go on when this process is
 * killed; a successor finds the bits. What is read after a drain is at least as new as the drain.
 *
 * Changes are told in granules of 4 KiB; those of large disks may be larger, so that the bitmaps fit their memory.
 */
export class BpfTracker implements ChangeTracker {
  readonly drainEveryMs = DRAIN_EVERY_MS;
  readonly #calls: BpfCalls;
  readonly #folder: BpfFolder;
  readonly #disks: (TrackedDisk | undefined)[] = [];
  readonly #running = new Map<number, RunningDisk>();
  #kernel: KernelTracking;
  #isStarted = false;
  #isClosed = false;
  #sink: ChangeSink | undefined;
  #changes = 0;

  private constructor(calls: BpfCalls, folder: BpfFolder, kernel: KernelTracking) {
    this.#calls = calls;
    this.#folder = folder;
    this.#kernel = kernel;
  }

  /**
   * `name`: `osr-…`; one tracker at a time may have it. Throws BPF_UNAVAILABLE, BPF_PROGRAM_REFUSED or KERNEL_TYPES_UNKNOWN
   * where this kernel cannot do it, TRACKER_BUSY.
   */
  static open(name: string): BpfTracker {
    const calls = new BpfCalls();
    const folder = BpfFolder.open(calls, name);
    try {
      const kernel = KernelTracking.load(calls, folder, KernelTypes.ofThisKernel());
      return new BpfTracker(calls, folder, kernel);
    } catch (error) {
      folder[Symbol.dispose]();
      throw error;
    }
  }

  start(): void {
    assert(!this.#isStarted, "the tracker was started already");
    this.#kernel.start();
    this.#isStarted = true;
    for (const [index, disk] of this.#disks.entries())
      if (disk !== undefined) this.#run(index, disk);
  }

  add(disk: TrackedDisk): number {
    const index = this.#disks.push(disk) - 1;
    if (this.#isStarted) this.#run(index, disk);
    return index;
  }

  remove(diskIndex: number): void {
    this.#disks[diskIndex] = undefined;
    const running = this.#running.get(diskIndex);
    if (running === undefined) return;
    this.#running.delete(diskIndex);
    for (const device of running.tracked.eventDevices) this.#kernel.deleteDevice(device);
    this.#kernel.forgetBitmap(running.kernel.slot);
    running.memory[Symbol.dispose]();
  }

  setIgnoredRanges(diskIndex: number, ranges: readonly SectorRange[]): void {
    const disk = must(this.#disks[diskIndex], "a disk");
    this.#disks[diskIndex] = { ...disk, ignoredRanges: ranges };
    const running = this.#running.get(diskIndex);
    if (running !== undefined) running.ignored = granulesWithin(ranges, running.kernel);
  }

  /** `changes` are granules here. Nothing is ever lost. */
  drain(sink: ChangeSink): DrainResult {
    assert(this.#isStarted && !this.#isClosed, "the tracker runs");
    this.#sink = sink;
    this.#changes = 0;
    for (const disk of this.#running.values()) {
      disk.bitmap.drain(disk.sink);
      const { unplaced } = disk.counts;
      this.#changes += unplaced - disk.unplaced;
      disk.unplaced = unplaced;
    }
    return { changes: this.#changes, lost: false };
  }

  /** Nothing but which programs these are: the bits themselves are what is known. */
  savePosition(target: Float64Array): void {
    target[0] = LAYOUT_VERSION;
    target[1] = this.#kernel.id;
  }

  resume(position: Float64Array): boolean {
    assert(!this.#isStarted, "the tracker was started already");
    const left = KernelTracking.open(this.#calls, this.#folder);
    if (left === undefined) return false;
    if (position[0] !== LAYOUT_VERSION || position[1] !== left.id || !this.#areOf(left)) {
      left[Symbol.dispose]();
      return false;
    }
    this.#kernel[Symbol.dispose]();
    this.#kernel = left;
    this.#isStarted = true;
    this.#goOn();
    return true;
  }

  tracedSectors(diskIndex: number): SectorCounts {
    return this.#countsOf(diskIndex).highest;
  }

  settledSectors(diskIndex: number): SectorCounts | undefined {
    return this.#countsOf(diskIndex).settle((program) => this.#kernel.misses(program));
  }

  /** Whoever has other means uses those: see SystemTracker. */
  mismatched(): void {}

  /** Lets go without an end of the tracking, as a process does that is killed. */
  abandon(): void {
    if (this.#isClosed) return;
    this.#close();
    this.#folder[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    if (this.#isClosed) return;
    this.#close();
    this.#folder.removeAll();
  }

  #close(): void {
    this.#isClosed = true;
    for (const { memory } of this.#running.values()) memory[Symbol.dispose]();
    this.#running.clear();
    this.#kernel[Symbol.dispose]();
  }

  /** Whether all disks are tracked there as they are now. */
  #areOf(left: KernelTracking): boolean {
    return this.#disks.every(
      (disk) =>
        disk === undefined ||
        disk.eventDevices.every((device) => {
          const known = left.deviceOf(device);
          const first = left.deviceOf(must(disk.eventDevices[0], "a device"));
          return known?.sectorCount === disk.sectorCount && known.slot === first?.slot;
        }),
    );
  }

  /** With what a predecessor left. */
  #goOn(): void {
    const wanted = new Set<number>();
    for (const [index, disk] of this.#disks.entries()) {
      if (disk === undefined) continue;
      for (const device of disk.eventDevices) wanted.add(device);
      const first = must(disk.eventDevices[0], "a device");
      const kernel = must(this.#kernel.deviceOf(first), "it is known");
      const memory = this.#kernel.openBitmap(kernel.slot, kernel.layout);
      this.#use(index, disk, kernel, memory).bitmap.lookAtAll();
    }
    for (const device of this.#kernel.eventDevices())
      if (!wanted.has(device)) this.#kernel.deleteDevice(device);
  }

  #run(index: number, disk: TrackedDisk): void {
    const slot = this.#freeSlot();
    const layout = dirtyBitmapLayout(disk.sectorCount, this.#bitmapBytesMax());
    const memory = this.#kernel.makeBitmap(slot, layout);
    const kernel = { slot, sectorCount: disk.sectorCount, layout };
    this.#use(index, disk, kernel, memory);
    for (const device of disk.eventDevices) {
      assert(
        this.#kernel.deviceOf(device) === undefined,
        "no two disks have the same event device",
      );
      this.#kernel.setDevice(device, kernel);
    }
  }

  #use(
    index: number,
    tracked: TrackedDisk,
    kernel: KernelDisk,
    memory: SharedMapping,
  ): RunningDisk {
    const counts = new WitnessCounts(this.#kernel.countsOf(kernel.slot), PROGRAMS);
    const running: RunningDisk = {
      tracked,
      kernel,
      memory,
      counts,
      bitmap: new DirtyBitmap(memory.buffer, kernel.layout),
      sink: (granule, bits) => this.#changed(index, running, granule, bits),
      ignored: granulesWithin(tracked.ignoredRanges, kernel),
      unplaced: counts.unplaced,
    };
    this.#running.set(index, running);
    return running;
  }

  /** Hands on what of the granules is not ignored. */
  #changed(index: number, { kernel, ignored }: RunningDisk, granule: number, bits: number): void {
    const left = withoutRanges(granule, bits, ignored);
    if (left === 0) return;
    this.#changes += bitCount(left);
    if (kernel.layout.granuleShift === BLOCK_SHIFT) this.#sink?.changedBlocks(index, granule, left);
    else
      for (let rest = left; rest !== 0; rest &= rest - 1)
        this.#tellGranule(index, kernel, granule + lowestBit(rest));
  }

  #tellGranule(index: number, { layout, sectorCount }: KernelDisk, granule: number): void {
    const sectors = 2 ** layout.granuleShift;
    const start = granule * sectors;
    this.#sink?.changed(index, start, Math.min(sectors, sectorCount - start));
  }

  #freeSlot(): number {
    const used = new Set([...this.#running.values()].map(({ kernel }) => kernel.slot));
    const free = Array.from({ length: SLOTS }, (_, slot) => slot).find((slot) => !used.has(slot));
    return must(free, "a machine has no more disks");
  }

  #bitmapBytesMax(): number {
    const layouts = [...this.#running.values()].map(({ kernel }) => kernel.layout);
    const left = layouts.reduce((bytes, layout) => bytes - bytesOf(layout), BITMAP_BYTES_MAX);
    return Math.max(BITMAP_BYTES_MIN, left / 2);
  }

  #countsOf(diskIndex: number): WitnessCounts {
    return must(this.#running.get(diskIndex), "a disk that is tracked").counts;
  }
}

/** Of the granules from `granule` on, those that are in no range. */
function withoutRanges(granule: number, bits: number, ranges: readonly GranuleRange[]): number {
  let left = bits;
  for (const { start, end } of ranges) {
    const from = Math.max(0, start - granule);
    const to = Math.min(32, end - granule);
    if (from < to) left &= ~bitsWithin(from, to);
  }
  return left;
}

/** Granules that lie wholly within ranges. */
function granulesWithin(
  ranges: readonly SectorRange[],
  { layout }: KernelDisk,
): readonly GranuleRange[] {
  const sectors = 2 ** layout.granuleShift;
  return ranges
    .map(({ sector, count }) => ({
      start: Math.ceil(sector / sectors),
      end: Math.floor((sector + count) / sectors),
    }))
    .filter(({ start, end }) => start < end);
}
