import type { HealthError, PointSummary } from "@osr/contracts/agent-protocol";

import type { ReplicationStage } from "./disk-replication.ts";
import type { ResyncProgress } from "./resync-reason.ts";

/** What the agent says of itself, every second, in its status file. */
export type MobilityStatus = {
  /**
   * idle: the machine is not to be replicated, `health` says why where it once was; connecting: there is no session with the process server; initial: disks are copied for the first time; resync: a disk
   * is compared with what the storage account holds, `health` says why, no points are made meanwhile; protected: recovery
   * points are made; critical: they are not, `health` says why; replica: the machine is a copy of the enrolled one, and
   * nothing of it is tracked, frozen or sent; stopped.
   */
  readonly state:
    | "idle"
    | "connecting"
    | "initial"
    | "resync"
    | "protected"
    | "critical"
    | "replica"
    | "stopped";
  readonly unixMs: number;
  /** Address of the process server that is used; of the configuration server, where the machine is idle. */
  readonly processServer: string;
  readonly disks: readonly DiskStatus[];
  /** Newest recovery point that the storage account holds. */
  readonly newestPoint?: PointSummary;
  /** Age of the newest recovery point: what a failover now would lose. */
  readonly rpoSeconds?: number;
  readonly pointsMade: number;
  readonly pointsMissed: number;
  readonly missedReasons: Readonly<Record<string, number>>;
  readonly lastCut?: {
    readonly cutId: string;
    readonly slot: number;
    readonly class: string;
    readonly unixMs: number;
    readonly frozenMs: number;
    readonly heldMs: number;
    readonly rounds: number;
  };
  readonly health: readonly HealthError[];
};

export type DiskStatus = {
  readonly identity: string;
  readonly name: string;
  readonly sizeBytes: number;
  readonly stage: ReplicationStage;
  /** Of the comparison that is under way, and of the last one that came to its end. */
  readonly resync?: ResyncProgress;
  readonly lastResync?: ResyncProgress;
  readonly dirtyBytes: number;
  /** Intervals that are sent but not yet vaulted. */
  readonly openIntervals: number;
  readonly readBytes: number;
  readonly sentBytes: number;
  /**
   * Part of `sentBytes` that may have been sent before, in this run or the one before it, although it had not changed since:
   * batches that were sent more than once or whose acknowledgement never came, and blocks whose acknowledgement does not hold
   * any more. An upper bound.
   */
  readonly sentAgainBytes: number;
  /** Since the process server was started; there while it answers. */
  readonly spooledBytes?: number;
  readonly pendingUploadBytes?: number;
  readonly vaultedBytes?: number;
  /** Of initial replication or of the comparison, from 0 to 1. */
  readonly progress: number;
  /** How fast dirty data grows less, or 0. */
  readonly rateBytesPerSecond: number;
  /** Until all that is dirty is copied at this rate, during initial replication. */
  readonly secondsLeft?: number;
};
