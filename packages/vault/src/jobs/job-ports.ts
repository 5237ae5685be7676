import type { Clock } from "@osr/base/clock";
import type { Log } from "@osr/base/log";
import type { Randomness } from "@osr/base/randomness";
import type { Scheduler } from "@osr/base/scheduler";

import type { VaultDatabase } from "../database/database.ts";
import type { NodeConnection } from "../database/node-connection.ts";
import type { CrashPoint } from "./crash-point.ts";

/** What the job engine works with. */
export type JobPorts = {
  readonly database: VaultDatabase;
  readonly node: NodeConnection;
  readonly clock: Clock;
  readonly scheduler: Scheduler;
  readonly randomness: Randomness;
  readonly log: Log;
  readonly crashPoint: CrashPoint;
};
