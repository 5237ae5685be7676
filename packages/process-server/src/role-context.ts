import type { Clock } from "@osr/base/clock";
import type { Log } from "@osr/base/log";
import type { Randomness } from "@osr/base/randomness";
import type { Scheduler } from "@osr/base/scheduler";
import type { Uuid } from "@osr/base/uuid";
import type { ObjectStore } from "@osr/repository/object-store";

import type { CacheMeter } from "./cache-meter.ts";
import type { Encoder } from "./encoder.ts";
import type { LoadShares } from "./load-watch.ts";
import type { RoleMetrics } from "./role-metrics.ts";
import type { SegmentTarget } from "./segment-target.ts";
import type { Semaphore } from "./semaphore.ts";

/** Ports of the role. */
export type ProcessServerPorts = {
  readonly clock: Clock;
  readonly scheduler: Scheduler;
  readonly randomness: Randomness;
  readonly log: Log;
  readonly store: ObjectStore;
  readonly encoder: Encoder;
  /** How busy the machine is at the moment; absent: nobody looks. */
  readonly load?: (() => LoadShares) | undefined;
};

/** What the parts of one process server share. */
export type RoleContext = ProcessServerPorts & {
  readonly vaultId: Uuid;
  readonly spoolFolder: string;
  readonly uploads: Semaphore;
  readonly segmentTarget: SegmentTarget;
  readonly cache: CacheMeter;
  readonly metrics: RoleMetrics;
  /** Runs that one open segment may have, so that those of all disks fit into memory. */
  segmentRunsMax(): number;
};
