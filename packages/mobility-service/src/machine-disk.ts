import type { OsrError } from "@osr/base/errors";
import type { ErrorInfo } from "@osr/base/errors";
import type { HealthError } from "@osr/contracts/agent-protocol";

import type { CopyRate } from "./copy-rate.ts";
import type { DiskReplication } from "./disk-replication.ts";
import { MOBILITY_ERRORS } from "./mobility-errors.ts";
import type { DiskStatus } from "./mobility-status.ts";
import type { Turn } from "./turn.ts";

const MESSAGE_CHARS_MAX = 1024;

/** A disk of the machine, as the service handles it. */
export type MachineDisk = {
  readonly replication: DiskReplication;
  /** Whoever copies the disk has the turn; a cut has that of all disks. */
  readonly turn: Turn;
  readonly rate: CopyRate;
  /** Why its changes cannot be followed on this machine. */
  readonly untrusted: string | undefined;
};

/** What keeps a disk from being part of a recovery point, or undefined. */
export function troubleOf(disk: MachineDisk, isLost: boolean): HealthError | undefined {
  const { replication, untrusted } = disk;
  const { name } = replication.disk;
  if (replication.fenced !== undefined) return healthOf(replication.fenced, name);
  if (isLost)
    return health(MOBILITY_ERRORS.TRACKING_LOST, `${name}: the kernel dropped events of changes`);
  if (untrusted !== undefined)
    return health(MOBILITY_ERRORS.TRACKING_UNTRUSTED, `${name}: ${untrusted}`);
  if (replication.unreadable !== undefined) return healthOf(replication.unreadable, name);
  return undefined;
}

/** True where copying the disk makes no sense any more. */
export function isStopped(disk: MachineDisk, isLost: boolean): boolean {
  return disk.replication.fenced !== undefined || disk.untrusted !== undefined || isLost;
}

export function statusOf(disk: MachineDisk, nowMs: number): DiskStatus {
  const { replication } = disk;
  const { identity, name, sizeBytes } = replication.disk;
  const { stage, readBytes, sentBytes } = replication;
  const dirtyBytes = Math.min(replication.dirtyBytes, sizeBytes);
  const rateBytesPerSecond = Math.round(disk.rate.bytesPerSecond(readBytes, nowMs));
  const isMoving = stage === "initial" && rateBytesPerSecond > 0;
  return {
    identity,
    name,
    sizeBytes,
    stage,
    dirtyBytes,
    openIntervals: replication.state.openIntervals,
    sentBytes,
    readBytes,
    progress: stage === "initial" ? 1 - dirtyBytes / sizeBytes : 1,
    rateBytesPerSecond,
    ...(isMoving ? { secondsLeft: Math.ceil(dirtyBytes / rateBytesPerSecond) } : {}),
  };
}

export function health(info: ErrorInfo, message: string): HealthError {
  return { code: info.code, message: message.slice(0, MESSAGE_CHARS_MAX), hint: info.hint };
}

function healthOf(error: OsrError, name: string): HealthError {
  return health(error, `${name}: ${error.message}`);
}
