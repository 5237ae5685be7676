import type { OsrError } from "@osr/base/errors";
import type { ErrorInfo } from "@osr/base/errors";
import type { DirectReader } from "@osr/block-device/protected-disk";
import type { AgentDiskBytes, HealthError, ServerDiskBytes } from "@osr/contracts/agent-protocol";

import type { CopyRate } from "./copy-rate.ts";
import type { DiskReplication } from "./disk-replication.ts";
import { MOBILITY_ERRORS } from "./mobility-errors.ts";
import type { DiskStatus } from "./mobility-status.ts";
import type { Turn } from "./turn.ts";

const MESSAGE_CHARS_MAX = 1024;

/** A disk of the machine, as the service handles it. */
export type MachineDisk = {
  /** The tracker's disk index. */
  readonly index: number;
  readonly replication: DiskReplication;
  readonly reader: DirectReader;
  /** Whoever copies the disk has the turn; a cut has that of all disks. */
  readonly turn: Turn;
  readonly rate: CopyRate;
  /** Why its changes cannot be followed on this machine. */
  readonly untrusted: string | undefined;
  /** False for a disk that came while points were made, until all of it has been copied: until then they are made without it. */
  isMember: boolean;
  /** The machine does not have it any more, or not as it was. */
  isVanished: boolean;
};

/** What keeps a disk from being part of a recovery point, or undefined. */
export function troubleOf(disk: MachineDisk): HealthError | undefined {
  const { replication, untrusted } = disk;
  const { name } = replication.disk;
  if (replication.fenced !== undefined) return healthOf(replication.fenced, name);
  if (disk.isVanished)
    return health(MOBILITY_ERRORS.DISK_VANISHED, `${name} (${replication.disk.identity})`);
  if (untrusted !== undefined)
    return health(MOBILITY_ERRORS.TRACKING_UNTRUSTED, `${name}: ${untrusted}`);
  if (replication.unreadable !== undefined) return healthOf(replication.unreadable, name);
  return undefined;
}

/** What a disk that is being compared tells of it, or undefined. No points are made meanwhile. */
export function resyncOf({ replication }: MachineDisk): HealthError | undefined {
  const { resync } = replication;
  if (resync === undefined) return undefined;
  const { name, sizeBytes } = replication.disk;
  const share = ((resync.comparedBytes / sizeBytes) * 100).toFixed(1);
  const message = `${name}: ${share} % compared with what the storage account holds`;
  return health(MOBILITY_ERRORS[resync.reason], message);
}

/** True where copying the disk makes no sense any more. */
export function isStopped(disk: MachineDisk): boolean {
  const { replication, untrusted, isVanished } = disk;
  return replication.fenced !== undefined || untrusted !== undefined || isVanished;
}

/** `told`: what the process server said of its bytes. */
export function statusOf(
  disk: MachineDisk,
  nowMs: number,
  told: readonly ServerDiskBytes[] = [],
): DiskStatus {
  const { replication } = disk;
  const bytes = told.find(({ diskId }) => diskId === replication.diskIdNow);
  const { identity, name, sizeBytes } = replication.disk;
  const { stage, readBytes, sentBytes, sentAgainBytes, resync, lastResync } = replication;
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
    sentAgainBytes,
    readBytes,
    progress: progressOf(replication, dirtyBytes),
    rateBytesPerSecond,
    ...bytes,
    ...(resync === undefined ? {} : { resync }),
    ...(lastResync === undefined ? {} : { lastResync }),
    ...(isMoving ? { secondsLeft: Math.ceil(dirtyBytes / rateBytesPerSecond) } : {}),
  };
}

/** How far the disks are, for the process server's metrics. */
export function agentBytesOf(disks: readonly MachineDisk[]): AgentDiskBytes[] {
  return disks.flatMap(({ replication }) => {
    const { diskIdNow: diskId, readBytes, sentBytes, dirtyBytes, resync } = replication;
    const compared = resync === undefined ? {} : { comparedBytes: resync.comparedBytes };
    return diskId === undefined ? [] : [{ diskId, readBytes, sentBytes, dirtyBytes, ...compared }];
  });
}

function progressOf({ stage, resync, disk }: DiskReplication, dirtyBytes: number): number {
  if (resync !== undefined) return resync.comparedBytes / disk.sizeBytes;
  return stage === "initial" ? 1 - dirtyBytes / disk.sizeBytes : 1;
}

export function health(info: ErrorInfo, message: string): HealthError {
  return { code: info.code, message: message.slice(0, MESSAGE_CHARS_MAX), hint: info.hint };
}

function healthOf(error: OsrError, name: string): HealthError {
  return health(error, `${name}: ${error.message}`);
}
