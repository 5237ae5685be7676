import { readFileSync, statfsSync } from "node:fs";
import { availableParallelism } from "node:os";

import { type ErrorInfo, defineErrors } from "@osr/base/errors";
import { GIB, KIB } from "@osr/base/units";
import type { ReplicaObjection } from "@osr/contracts/replica-host";

/** What this machine has for failed-over machines. */
export type HostCapacity = {
  readonly cpuCount: number;
  readonly memoryBytes: number;
  readonly memoryFreeBytes: number;
  /** Where overlays and local disks are written. */
  readonly diskFreeBytes: number;
};

export type CapacityNeed = {
  readonly cpuCount: number;
  readonly memoryBytes: number;
  /** Of all disks together; those that are moved to local storage take what was ever written on them. */
  readonly diskBytes: number;
};

const CAPACITY = defineErrors({
  CAPACITY_CPU: {
    retryable: false,
    hint: "Choose a smaller target size, or another host; the machine runs all the same, slower.",
  },
  CAPACITY_MEMORY: {
    retryable: true,
    hint: "Choose a smaller target size, end other machines there, or give the host more memory.",
  },
  CAPACITY_DISK: {
    retryable: true,
    hint: "Free space in the replica host's folder: what is written by and moved to failed-over machines lies there.",
  },
});

/** A machine with less than this to write to stops at its first log files. */
const DISK_FREE_BYTES_MIN = GIB;

/**
 * What a machine would lack here. An error where it can't run at all; a warning where it can, slowly or for a while: in a
 * disaster a slow machine is better than none.
 */
export function capacityObjections(
  need: CapacityNeed,
  host: HostCapacity,
): readonly ReplicaObjection[] {
  const objections: ReplicaObjection[] = [];
  const object = (
    level: ReplicaObjection["level"],
    { code, hint }: ErrorInfo,
    message: string,
  ): void => void objections.push({ code, level, message, hint });
  if (need.cpuCount > host.cpuCount)
    object(
      "warning",
      CAPACITY.CAPACITY_CPU,
      `the machine has ${need.cpuCount} CPUs, the replica host ${host.cpuCount}`,
    );
  if (need.memoryBytes > host.memoryFreeBytes)
    object(
      need.memoryBytes > host.memoryBytes ? "error" : "warning",
      CAPACITY.CAPACITY_MEMORY,
      `the machine has ${gibibytes(need.memoryBytes)} of memory, the replica host ${gibibytes(host.memoryFreeBytes)} free of ${gibibytes(host.memoryBytes)}`,
    );
  if (need.diskBytes > host.diskFreeBytes)
    object(
      host.diskFreeBytes < DISK_FREE_BYTES_MIN ? "error" : "warning",
      CAPACITY.CAPACITY_DISK,
      `the machine's disks have ${gibibytes(need.diskBytes)}, the replica host ${gibibytes(host.diskFreeBytes)} free`,
    );
  return objections;
}

/** What there is now. `directory` exists. */
export function measureCapacity(directory: string): HostCapacity {
  const { bavail, bsize } = statfsSync(directory);
  const memory = readFileSync("/proc/meminfo", "utf8");
  return {
    cpuCount: availableParallelism(),
    memoryBytes: kibibytesOf(memory, "MemTotal") * KIB,
    memoryFreeBytes: kibibytesOf(memory, "MemAvailable") * KIB,
    diskFreeBytes: bavail * bsize,
  };
}

function kibibytesOf(memory: string, field: string): number {
  return Number(new RegExp(`^${field}:\\s+(\\d+) kB$`, "m").exec(memory)?.[1] ?? 0);
}

function gibibytes(bytes: number): string {
  return `${(bytes / GIB).toFixed(1)} GiB`;
}
