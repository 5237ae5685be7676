import { type OsrError, hasCode } from "@osr/base/errors";

import { BLOCK_DEVICE_ERRORS } from "./block-device-errors.ts";
import { BpfCalls } from "./bpf-calls.ts";
import { BpfFolder } from "./bpf-folder.ts";
import { BpfTracker } from "./bpf-tracker.ts";
import type {
  ChangeSink,
  ChangeTracker,
  DrainResult,
  SectorCounts,
  SectorRange,
  TrackedDisk,
} from "./change-tracker.ts";
import { removeTraceInstance } from "./trace-instance.ts";
import { TracefsTracker } from "./tracefs-tracker.ts";

export type SystemTrackerOptions = {
  /** `osr-…`; one tracker at a time may have it. */
  readonly name: string;
  /** Of the trace events, where those are used. */
  readonly ringBytesPerCpu: number;
  /** Hears by which means changes are tracked from now on, and why by no cheaper ones. */
  readonly onMeans?: (means: TrackingMeans, reason: string | undefined) => void;
};

export type TrackingMeans = "kernel program" | "trace events";

/**
 * Tracks by programs in the kernel, where it can run them and until its own counters say that they missed something; else, and
 * from then on, by trace events.
 */
export class SystemTracker implements ChangeTracker {
  readonly #options: SystemTrackerOptions;
  readonly #disks: { disk: TrackedDisk; isRemoved: boolean }[] = [];
  #tracker: BpfTracker | TracefsTracker;
  /** The one before, whose last changes are yet to be drained. */
  #former: BpfTracker | undefined;
  /** Disks whose counts began anew since they were asked for. */
  readonly #recounted = new Set<number>();

  /** Throws TRACKER_BUSY where a living process has the name. */
  constructor(options: SystemTrackerOptions) {
    this.#options = options;
    try {
      this.#tracker = BpfTracker.open(options.name);
      options.onMeans?.("kernel program", undefined);
    } catch (error) {
      if (!isUnable(error)) throw error;
      this.#tracker = new TracefsTracker(options);
      options.onMeans?.("trace events", error.message);
    }
  }

  get drainEveryMs(): number {
    return this.#tracker.drainEveryMs;
  }

  /** Throws TRACEFS_UNAVAILABLE, TRACE_FORMAT_UNKNOWN, TRACKER_BUSY. */
  start(): void {
    if (this.#tracker instanceof BpfTracker) removeTraceInstance(this.#options.name);
    this.#tracker.start();
  }

  add(disk: TrackedDisk): number {
    this.#disks.push({ disk, isRemoved: false });
    return this.#tracker.add(disk);
  }

  remove(diskIndex: number): void {
    const known = this.#disks[diskIndex];
    if (known !== undefined) known.isRemoved = true;
    this.#tracker.remove(diskIndex);
    this.#former?.remove(diskIndex);
  }

  setIgnoredRanges(diskIndex: number, ranges: readonly SectorRange[]): void {
    const known = this.#disks[diskIndex];
    if (known !== undefined) known.disk = { ...known.disk, ignoredRanges: ranges };
    this.#tracker.setIgnoredRanges(diskIndex, ranges);
    this.#former?.setIgnoredRanges(diskIndex, ranges);
  }

  drain(sink: ChangeSink): DrainResult {
    const former = this.#former?.drain(sink);
    const { changes, lost } = this.#tracker.drain(sink);
    this.#former?.[Symbol.dispose]();
    this.#former = undefined;
    return { changes: changes + (former?.changes ?? 0), lost };
  }

  savePosition(target: Float64Array): void {
    this.#tracker.savePosition(target);
  }

  resume(position: Float64Array, traced: readonly SectorCounts[]): boolean {
    if (!this.#tracker.resume(position, traced)) return this.#resumeEvents(position, traced);
    // A predecessor may have died just after it began with trace events, which nobody would read from now on.
    if (this.#tracker instanceof BpfTracker) removeTraceInstance(this.#options.name);
    return true;
  }

  tracedSectors(diskIndex: number): SectorCounts {
    return this.#tracker.tracedSectors(diskIndex);
  }

  settledSectors(diskIndex: number): SectorCounts | undefined {
    if (this.#recounted.delete(diskIndex)) return undefined;
    return this.#tracker.settledSectors(diskIndex);
  }

  /** Goes on by trace events: what the programs marked until now comes with the next drain. */
  mismatched(): void {
    if (!(this.#tracker instanceof BpfTracker)) return;
    const events = this.#eventTracker();
    events.start();
    this.#former = this.#tracker;
    this.#tracker = events;
    for (const index of this.#disks.keys()) this.#recounted.add(index);
    this.#options.onMeans?.("trace events", "the kernel counted changes that the programs missed");
  }

  /** Where the predecessor had changed to trace events. */
  #resumeEvents(position: Float64Array, traced: readonly SectorCounts[]): boolean {
    if (!(this.#tracker instanceof BpfTracker)) return false;
    const events = this.#eventTracker();
    if (!events.resume(position, traced)) return false;
    this.#tracker[Symbol.dispose]();
    this.#tracker = events;
    this.#options.onMeans?.("trace events", "those of the agent before go on");
    return true;
  }

  /** Of the same disks under the same indexes. */
  #eventTracker(): TracefsTracker {
    const events = new TracefsTracker(this.#options);
    for (const { disk, isRemoved } of this.#disks) {
      const index = events.add(disk);
      if (isRemoved) events.remove(index);
    }
    return events;
  }

  /** Lets go without an end of the tracking, as a process does that is killed. */
  abandon(): void {
    this.#former?.abandon();
    this.#tracker.abandon();
  }

  [Symbol.dispose](): void {
    this.#former?.[Symbol.dispose]();
    this.#tracker[Symbol.dispose]();
  }
}

/** Whether this kernel cannot run our programs: anything else is a fault. */
function isUnable(error: unknown): error is OsrError {
  const { BPF_UNAVAILABLE, BPF_PROGRAM_REFUSED, KERNEL_TYPES_UNKNOWN } = BLOCK_DEVICE_ERRORS;
  const codes = [BPF_UNAVAILABLE, BPF_PROGRAM_REFUSED, KERNEL_TYPES_UNKNOWN];
  return codes.some((info) => hasCode(error, info));
}

/** Removes what a tracker has left whose process was killed. Throws TRACKER_BUSY. */
export function removeSystemTracker(name: string): void {
  removeTraceInstance(name);
  if (BpfFolder.isThere(name)) BpfFolder.open(new BpfCalls(), name).removeAll();
}
