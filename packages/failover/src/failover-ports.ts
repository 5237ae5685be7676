import type { Clock } from "@osr/base/clock";
import type { Log } from "@osr/base/log";
import type { Randomness } from "@osr/base/randomness";
import type { Scheduler } from "@osr/base/scheduler";
import type { Uuid } from "@osr/base/uuid";
import type { ComputeProvider } from "@osr/compute/compute-provider";
import type { GranuleCache } from "@osr/nbd/granule-cache";
import type { ObjectStore } from "@osr/repository/object-store";

import type { FailoverKeys } from "./failover-keys.ts";

/** What every failover of one process works with. */
export type FailoverPorts = {
  /** The storage account; reading is enough. */
  readonly store: ObjectStore;
  readonly vaultId: Uuid;
  readonly keys: FailoverKeys;
  readonly compute: ComputeProvider;
  /**
   * Absolute path, mode 0700, at most RUN_DIRECTORY_CHARS_MAX characters, used by one process at a time. Holds a folder
   * with a state file and the socket of the exports for each failed-over machine.
   */
  readonly runDirectory: string;
  /** Memory of all exports together. */
  readonly cache: GranuleCache;
  readonly log: Log;
  readonly clock: Clock;
  readonly scheduler: Scheduler;
  readonly randomness: Randomness;
};

/** Names of unix sockets have room for 107 characters; the folder of the machine and the socket take 46 of them. */
export const RUN_DIRECTORY_CHARS_MAX = 60;
