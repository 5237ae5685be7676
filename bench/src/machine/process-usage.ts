import { readFileSync, readdirSync } from "node:fs";

import { KIB } from "@osr/base/units";

/** Unit of the times in /proc: USER_HZ, which is 100 on every architecture that we run on. */
const TICKS_PER_SECOND = 100;
const UTIME = 11;
const PPID = 1;

/**
 * Processor seconds, user and system, of processes and all below them: of those that live (/proc/PID/stat), and of those
 * that have ended and were waited for (cutime, cstime). The kernel scales its exact run time to these numbers, so only the
 * unit of 10 ms is coarse.
 */
export function cpuSecondsOf(pids: readonly number[]): number {
  const table = processTable();
  let ticks = 0;
  for (const pid of withDescendants(pids, table))
    ticks += sum(table.get(pid)?.slice(UTIME, UTIME + 4) ?? []);
  return ticks / TICKS_PER_SECOND;
}

/** Processor seconds, user and system, of one process without those below it. */
export function cpuSecondsAlone(pid: number): number {
  return (
    sum(
      processTable()
        .get(pid)
        ?.slice(UTIME, UTIME + 2) ?? [],
    ) / TICKS_PER_SECOND
  );
}

/** Processor seconds of all threads of the kernel: what is done for loop devices and for writing back, for anybody. */
export function kernelCpuSeconds(): number {
  let ticks = 0;
  for (const fields of processTable().values())
    if (fields[PPID] === 2) ticks += sum(fields.slice(UTIME, UTIME + 2));
  return ticks / TICKS_PER_SECOND;
}

/** Children of a process, now. */
export function childrenOf(pid: number): readonly number[] {
  try {
    const text = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8");
    return text.split(" ").filter(Boolean).map(Number);
  } catch {
    return [];
  }
}

/** The largest resident set that a process ever had (VmHWM); 0 where it is gone. */
export function peakBytesOf(pid: number): number {
  try {
    const text = readFileSync(`/proc/${pid}/status`, "utf8");
    return Number(/^VmHWM:\s+(\d+) kB$/m.exec(text)?.[1] ?? 0) * KIB;
  } catch {
    return 0;
  }
}

/**
 * Proportional set sizes of a process and of all below it: a page that several have counts once, in parts. PostgreSQL's
 * shared buffers are in the resident set of each of its processes, so sums of those would say nothing.
 */
export function proportionalBytesOf(pid: number): {
  readonly own: number;
  readonly below: number;
  readonly processesBelow: number;
} {
  const below = [...withDescendants([pid], processTable())].filter((each) => each !== pid);
  return {
    own: proportionalBytes(pid),
    below: sum(below.map(proportionalBytes)),
    processesBelow: below.length,
  };
}

function proportionalBytes(pid: number): number {
  try {
    const text = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
    return Number(/^Pss:\s+(\d+) kB$/m.exec(text)?.[1] ?? 0) * KIB;
  } catch {
    return 0;
  }
}

/** Fields of each process from the state on, as proc(5) numbers them from 3. */
function processTable(): ReadonlyMap<number, readonly number[]> {
  const table = new Map<number, readonly number[]>();
  for (const entry of readdirSync("/proc")) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      const text = readFileSync(`/proc/${entry}/stat`, "utf8");
      // The name may hold blanks and parentheses.
      const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
      table.set(Number(entry), fields.map(Number));
    } catch {
      // It ended meanwhile.
    }
  }
  return table;
}

function withDescendants(
  roots: readonly number[],
  table: ReadonlyMap<number, readonly number[]>,
): ReadonlySet<number> {
  const found = new Set(roots);
  // A child's number need not be larger than its parent's, so this goes on until nothing is found.
  for (let before = -1; found.size !== before;) {
    before = found.size;
    for (const [pid, fields] of table) if (found.has(fields[PPID] ?? -1)) found.add(pid);
  }
  return found;
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
