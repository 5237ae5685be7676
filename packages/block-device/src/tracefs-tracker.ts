import { assert, must } from "@osr/base/assert";

import type {
  ChangeSink,
  ChangeTracker,
  DrainResult,
  SectorCounts,
  SectorRange,
  TrackedDisk,
} from "./change-tracker.ts";
import { DISCARD, READ, type RequestKind, type RequestSink } from "./ring-page.ts";
import { TraceInstance } from "./trace-instance.ts";

/** The kernel takes filters of less than a page; with more disks than fit, all requests of the machine are looked at. */
const FILTER_CHARS_MAX = 4000;

export type TracefsTrackerOptions = {
  /** Name of the trace instance: `osr-…`. One tracker at a time may have it. */
  readonly name: string;
  readonly ringBytesPerCpu: number;
};

/** A ring of some MiB for each CPU holds what the fastest disks complete in half a second. */
const DRAIN_EVERY_MS = 50;

/** Device number of a disk in trace events, as the kernel's dev_t. */
export function eventDeviceOf(disk: { readonly major: number; readonly minor: number }): number {
  return disk.major * 2 ** 20 + disk.minor;
}

/**
 * Tracks changes by the trace event `block_rq_complete` in a private instance of tracefs: no native code, no kernel module.
 * The event of a request comes after its data is on the device, so reading after a drain gives data at least as new
 * (`block_bio_queue` would come before). `lost` is exact: it is true for a drain if events were lost since the one before.
 *
 * Where a device takes several ranges in one discard (NVMe, `queue/max_discard_segments` above 1), the kernel traces the
 * first range with the length of all: some discarded blocks, which no file system uses any more, stay unmarked. That takes
 * merged discards: fstrim of an ext4 in holes on such a disk issued 138 of them one by one, and none was merged.
 */
export class TracefsTracker implements ChangeTracker {
  readonly drainEveryMs = DRAIN_EVERY_MS;
  readonly #options: TracefsTrackerOptions;
  readonly #requests = new RequestCounter();
  #instance: TraceInstance | undefined;

  constructor(options: TracefsTrackerOptions) {
    this.#options = options;
  }

  /** Throws TRACEFS_UNAVAILABLE, TRACE_FORMAT_UNKNOWN, TRACKER_BUSY. */
  start(): void {
    assert(this.#instance === undefined, "the tracker was started already");
    this.#instance = new TraceInstance({ ...this.#options, filter: this.#filter() });
  }

  add(disk: TrackedDisk): number {
    const index = this.#requests.add(disk);
    this.#instance?.setFilter(this.#filter());
    return index;
  }

  remove(diskIndex: number): void {
    this.#requests.remove(diskIndex);
    this.#instance?.setFilter(this.#filter());
  }

  resume(position: Float64Array, traced: readonly SectorCounts[]): boolean {
    assert(this.#instance === undefined, "the tracker was started already");
    const options = { ...this.#options, filter: this.#filter() };
    this.#instance = TraceInstance.resume(options, position);
    if (this.#instance === undefined) return false;
    this.#requests.resume(traced);
    return true;
  }

  savePosition(target: Float64Array): void {
    this.#started().savePosition(target);
  }

  drain(sink: ChangeSink): DrainResult {
    this.#requests.begin(sink);
    const lost = this.#started().drain(this.#requests);
    return { changes: this.#requests.changes, lost };
  }

  setIgnoredRanges(diskIndex: number, ranges: readonly SectorRange[]): void {
    this.#requests.setIgnoredRanges(diskIndex, ranges);
  }

  tracedSectors(diskIndex: number): SectorCounts {
    return this.#requests.tracedSectors(diskIndex);
  }

  settledSectors(diskIndex: number): SectorCounts {
    return this.tracedSectors(diskIndex);
  }

  /** There are no better means. */
  mismatched(): void {}

  /** Changes beyond the disk's end, or at no place (SCSI pass-through): they are counted, so not quiet, but not handed on. */
  get unplacedChanges(): number {
    return this.#requests.unplacedChanges;
  }

  #filter(): string {
    return filterOf(this.#requests.eventDevices());
  }

  #started(): TraceInstance {
    return must(this.#instance, "the tracker was not started");
  }

  /** Lets go of the instance without removing it, as a process does that is killed. */
  abandon(): void {
    this.#instance?.close();
    this.#instance = undefined;
  }

  [Symbol.dispose](): void {
    this.#instance?.[Symbol.dispose]();
  }
}

/** Sorts requests by disk, counts them and hands changes on. Lives across drains so that none of them allocates. */
class RequestCounter implements RequestSink {
  changes = 0;
  unplacedChanges = 0;
  readonly #indexOfDevice = new Map<number, number>();
  readonly #sectorCounts: number[] = [];
  readonly #written: number[] = [];
  readonly #discarded: number[] = [];
  readonly #ignored: (readonly SectorRange[])[] = [];
  #sink: ChangeSink | undefined;

  add({ eventDevices, sectorCount, ignoredRanges }: TrackedDisk): number {
    const index = this.#sectorCounts.length;
    for (const device of eventDevices) {
      assert(!this.#indexOfDevice.has(device), "no two disks have the same event device");
      this.#indexOfDevice.set(device, index);
    }
    this.#sectorCounts.push(sectorCount);
    this.#written.push(0);
    this.#discarded.push(0);
    this.#ignored.push(ignoredRanges);
    return index;
  }

  remove(index: number): void {
    for (const [device, ofDevice] of this.#indexOfDevice)
      if (ofDevice === index) this.#indexOfDevice.delete(device);
  }

  eventDevices(): readonly number[] {
    return [...this.#indexOfDevice.keys()];
  }

  resume(traced: readonly SectorCounts[]): void {
    for (const [index, { written, discarded }] of traced.entries()) {
      this.#written[index] = written;
      this.#discarded[index] = discarded;
    }
  }

  begin(sink: ChangeSink): void {
    this.#sink = sink;
    this.changes = 0;
  }

  request(eventDevice: number, kind: RequestKind, sector: number, sectorCount: number): void {
    if (kind === READ) return;
    const index = this.#indexOfDevice.get(eventDevice);
    if (index === undefined) return;
    // The kernel does not count what has no place (SCSI pass-through).
    if (sector <= Number.MAX_SAFE_INTEGER) {
      const counts = kind === DISCARD ? this.#discarded : this.#written;
      counts[index] = (counts[index] ?? 0) + sectorCount;
    }
    const sectorsLeft = (this.#sectorCounts[index] ?? 0) - sector;
    if (sectorsLeft > 0 && this.#isIgnored(index, sector, sectorCount)) return;
    this.changes += 1;
    if (sectorsLeft > 0) this.#sink?.changed(index, sector, Math.min(sectorCount, sectorsLeft));
    else this.unplacedChanges += 1;
  }

  #isIgnored(index: number, sector: number, sectorCount: number): boolean {
    for (const range of this.#ignored[index] ?? []) {
      if (sector >= range.sector && sector + sectorCount <= range.sector + range.count) return true;
    }
    return false;
  }

  setIgnoredRanges(index: number, ranges: readonly SectorRange[]): void {
    assert(index < this.#ignored.length, "no such disk");
    this.#ignored[index] = ranges;
  }

  tracedSectors(index: number): SectorCounts {
    return { written: this.#written[index] ?? 0, discarded: this.#discarded[index] ?? 0 };
  }
}

/** Leaves out what needs no drain: other disks, flushes and reads. */
function filterOf(eventDevices: readonly number[]): string {
  const changes = 'nr_sector > 0 && !(rwbs ~ "R*")';
  const devices = eventDevices.map((device) => `dev == ${device}`);
  const filter = `(${devices.join(" || ")}) && ${changes}`;
  return devices.length > 0 && filter.length <= FILTER_CHARS_MAX ? filter : changes;
}
