import fs from "node:fs";
import path from "node:path";

import { assert, must } from "@osr/base/assert";
import { OsrError, messageOf, systemErrorCode } from "@osr/base/errors";
import { KIB } from "@osr/base/units";

import { BLOCK_DEVICE_ERRORS } from "./block-device-errors.ts";
import { assertTrackerName } from "./kernel-file-system.ts";
import { CLEAN, type RequestSink, RingPageReader } from "./ring-page.ts";
import { type RingStats, parseRingStats } from "./ring-stats.ts";
import { parseRequestFormat, parseRingPageLayout } from "./trace-format.ts";
import { mountedTracefs } from "./tracefs.ts";

const EVENT = "events/block/block_rq_complete";
const STATS_BYTES_MAX = 1024;

export type TraceInstanceOptions = {
  /** `osr-…`: an instance of that name that a dead process left is removed. */
  readonly name: string;
  /** Memory of the kernel for each CPU; one event takes about 56 bytes of it. */
  readonly ringBytesPerCpu: number;
  /** In the kernel's filter language; empty for every request of the machine. */
  readonly filter: string;
};

/**
 * A private instance of tracefs that records completed block requests from its making to its disposal. The kernel makes a
 * folder and a ring for every CPU that the machine can ever have, so CPUs that come online later are read as well.
 */
export class TraceInstance implements Disposable {
  readonly #folder: string;
  readonly #reader: RingPageReader;
  readonly #pipes: readonly number[];
  readonly #statsFiles: readonly number[];
  readonly #statsText = new Uint8Array(STATS_BYTES_MAX);
  readonly #stats: RingStats = { lost: 0, read: 0 };
  /** The kernel's counts of events read on each CPU, after the last drain: those that we read, as nobody else does. */
  readonly #readCounts: Float64Array;
  #lostBefore = 0;
  #closed = false;

  /**
   * Begins anew; `left`: uses what an earlier process left there. Throws TRACEFS_UNAVAILABLE, TRACE_FORMAT_UNKNOWN, or
   * TRACKER_BUSY where a living process uses that name.
   */
  constructor(options: TraceInstanceOptions, left: "new" | "left" = "new") {
    this.#folder = folderOf(options.name);
    if (left === "new") removeInstance(this.#folder);
    const opened: number[] = [];
    const open = (file: string, flags: number): number => {
      const fd = fs.openSync(path.join(this.#folder, file), fs.constants.O_RDONLY | flags);
      opened.push(fd);
      return fd;
    };
    try {
      if (left === "new") {
        fs.mkdirSync(this.#folder);
        this.#configure(options);
      }
      this.#reader = this.#pageReader();
      const cpus = fs.readdirSync(path.join(this.#folder, "per_cpu"));
      this.#pipes = cpus.map((cpu) =>
        open(`per_cpu/${cpu}/trace_pipe_raw`, fs.constants.O_NONBLOCK),
      );
      this.#statsFiles = cpus.map((cpu) => open(`per_cpu/${cpu}/stats`, 0));
      if (left === "new") this.#set(`${EVENT}/enable`, "1");
      this.#readCounts = new Float64Array(cpus.length);
    } catch (cause) {
      for (const fd of opened) fs.closeSync(fd);
      if (left === "new") removeInstance(this.#folder);
      throw cause instanceof OsrError ? cause : unavailable(this.#folder, cause);
    }
  }

  /**
   * Goes on with the instance of a process that was killed, having read to `position`. Undefined where there is none, it
   * records something else, or more of it was read: the kernel counts what any reader takes.
   */
  static resume(options: TraceInstanceOptions, position: Float64Array): TraceInstance | undefined {
    const folder = folderOf(options.name);
    const read = (file: string): string => fs.readFileSync(path.join(folder, file), "utf8").trim();
    if (!fs.existsSync(folder)) return undefined;
    const isSame =
      read(`${EVENT}/enable`) === "1" &&
      read("tracing_on") === "1" &&
      (options.filter === "" || read(`${EVENT}/filter`) === options.filter);
    if (!isSame) return undefined;
    const instance = new TraceInstance(options, "left");
    if (instance.#resume(position)) return instance;
    instance.close();
    return undefined;
  }

  /** Numbers for `resume`: CPUs, events lost, events read on each CPU. As of the last drain. */
  savePosition(target: Float64Array): void {
    target[0] = this.#readCounts.length;
    target[1] = this.#lostBefore;
    target.set(this.#readCounts, 2);
  }

  #resume(position: Float64Array): boolean {
    this.#lostSum();
    this.#lostBefore = position[1] ?? 0;
    return (
      position[0] === this.#readCounts.length &&
      this.#readCounts.every((count, cpu) => count === position[2 + cpu])
    );
  }

  /**
   * Hands all requests that completed before this call, and maybe some newer ones, to `sink`. Returns true where events
   * were lost since the drain before. Synchronous; touches no disk.
   */
  drain(sink: RequestSink): boolean {
    assert(!this.#closed, "the trace instance is closed");
    let lost = false;
    for (const fd of this.#pipes)
      while (this.#readPage(fd)) if (this.#reader.read(sink) !== CLEAN) lost = true;
    // After the pages: whatever was lost before this drain began is in the counters by now.
    const lostNow = this.#lostSum();
    if (lostNow !== this.#lostBefore) lost = true;
    this.#lostBefore = lostNow;
    return lost;
  }

  /** Replaces the filter. The kernel swaps the two at once: no event passes by neither. */
  setFilter(filter: string): void {
    this.#set(`${EVENT}/filter`, filter);
  }

  #lostSum(): number {
    let sum = 0;
    for (let cpu = 0; cpu < this.#statsFiles.length; cpu++) {
      this.#readStats(must(this.#statsFiles[cpu], "file"));
      sum += this.#stats.lost;
      this.#readCounts[cpu] = this.#stats.read;
    }
    return sum;
  }

  #readStats(fd: number): void {
    const bytes = fs.readSync(fd, this.#statsText, 0, STATS_BYTES_MAX, 0);
    assert(parseRingStats(this.#statsText, bytes, this.#stats), "the ring has all its counters");
  }

  /** The kernel answers EAGAIN where a ring is empty. */
  #readPage(fd: number): boolean {
    const { page } = this.#reader;
    try {
      return fs.readSync(fd, page, 0, page.length, null) > 0;
    } catch (error) {
      if (systemErrorCode(error) === "EAGAIN") return false;
      throw error;
    }
  }

  #configure(options: TraceInstanceOptions): void {
    // The cheapest clock: nobody here looks at times.
    this.#set("trace_clock", "local");
    // Before the event is enabled: with it, every switch of a task on the machine is a probe more.
    this.#set("trace_options", "norecord-cmd");
    this.#set("buffer_size_kb", String(Math.ceil(options.ringBytesPerCpu / KIB)));
    if (options.filter !== "") this.#set(`${EVENT}/filter`, options.filter);
  }

  #pageReader(): RingPageReader {
    const read = (file: string): string =>
      fs.readFileSync(path.join(path.dirname(this.#folder), "..", file), "utf8");
    const layout = parseRingPageLayout(read("events/header_page"));
    return new RingPageReader(layout, parseRequestFormat(read(`${EVENT}/format`)));
  }

  #set(file: string, value: string): void {
    fs.writeFileSync(path.join(this.#folder, file), value);
  }

  [Symbol.dispose](): void {
    if (this.#closed) return;
    this.close();
    removeInstance(this.#folder);
  }

  /** Lets go of the instance, which goes on recording. */
  close(): void {
    this.#closed = true;
    for (const fd of [...this.#pipes, ...this.#statsFiles]) fs.closeSync(fd);
  }
}

/** Removes an instance that a dead process left. Throws TRACKER_BUSY, TRACEFS_UNAVAILABLE. */
export function removeTraceInstance(name: string): void {
  removeInstance(folderOf(name));
}

function folderOf(name: string): string {
  assertTrackerName(name);
  return path.join(mountedTracefs(), "instances", name);
}

/** The kernel refuses to remove an instance whose files are open: then its process lives. */
function removeInstance(folder: string): void {
  try {
    fs.rmdirSync(folder);
  } catch (cause) {
    const code = systemErrorCode(cause);
    if (code === "ENOENT") return;
    if (code !== "EBUSY") throw unavailable(folder, cause);
    const message = `${folder} is in use`;
    throw new OsrError(BLOCK_DEVICE_ERRORS.TRACKER_BUSY, message, { cause });
  }
}

function unavailable(folder: string, cause: unknown): OsrError {
  return new OsrError(
    BLOCK_DEVICE_ERRORS.TRACEFS_UNAVAILABLE,
    `${folder} cannot be used: ${messageOf(cause)}`,
    { cause },
  );
}
