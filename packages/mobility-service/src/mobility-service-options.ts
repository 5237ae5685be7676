import type { Clock } from "@osr/base/clock";
import type { Log } from "@osr/base/log";
import type { Randomness } from "@osr/base/randomness";
import type { Scheduler } from "@osr/base/scheduler";
import type { Uuid } from "@osr/base/uuid";
import type { ChangeTracker, KernelCounters } from "@osr/block-device/change-tracker";
import type { Freezer } from "@osr/block-device/freezer";
import type { HealthError, MachineDescription } from "@osr/contracts/agent-protocol";

import type { CertificateLife } from "./machine-health.ts";
import type { PointScripts } from "./cut.ts";
import type { DiskWatch, OpenedDisk } from "./disk-watch.ts";
import type { KeptOptions } from "./kept-start.ts";
import type { MobilityStatus } from "./mobility-status.ts";
import type { ProcessServerAssignment } from "./process-server-assignment.ts";
import type { ReplicationLimits } from "./replication-limits.ts";

export type MobilityServiceOptions = {
  readonly agentVersion: string;
  readonly machine: MachineDescription;
  /** What is wrong with this machine as long as the service runs. */
  readonly standing?: readonly HealthError[];
  /** Of the certificate by which the process server knows this machine, as it is at the moment. */
  readonly certificate?: (() => CertificateLife) | undefined;
  readonly disks: readonly OpenedDisk[];
  /** Tells of disks that come and go while the service runs. */
  readonly diskWatch: DiskWatch;
  /** Not started, without disks. */
  readonly tracker: ChangeTracker;
  /** Where a successor of this process finds what it knew; without it, each start compares the disks. */
  readonly kept?: KeptOptions | undefined;
  /** By which the tracker is checked. */
  readonly counters: KernelCounters;
  /** Why this run does not know what changed before it. */
  readonly startReason: "AGENT_RESTARTED" | "MACHINE_REBOOTED";
  readonly freezer: Freezer;
  readonly processServers: ProcessServerAssignment;
  readonly pointIntervalSeconds: number;
  readonly limits: ReplicationLimits;
  readonly scripts?: PointScripts | undefined;
  /** Blocks the thread for some milliseconds. */
  readonly pause: (ms: number) => void;
  readonly quietWindow: "required" | "unchecked";
  readonly beforeThaw?: ((cutId: Uuid) => void) | undefined;
  /** Called about once a second, never while the machine is frozen. */
  readonly writeStatus: (status: MobilityStatus) => Promise<void>;
  readonly clock: Clock;
  readonly scheduler: Scheduler;
  readonly randomness: Randomness;
  readonly log: Log;
};

export type PointIntervals = {
  readonly pointSeconds: number;
  /** Between points with scripts around them; 0: none, absent: every point. */
  readonly appPointSeconds?: number | undefined;
};
