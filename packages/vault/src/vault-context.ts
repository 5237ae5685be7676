import type { Identity } from "@osr/certificates/site-authority";
import type { Clock } from "@osr/base/clock";
import type { Log } from "@osr/base/log";
import type { Randomness } from "@osr/base/randomness";
import type { Scheduler } from "@osr/base/scheduler";
import type { Uuid } from "@osr/base/uuid";
import type { StorageGrant } from "@osr/contracts/site-protocol";
import type { ObjectStore } from "@osr/repository/object-store";

import type { VaultDatabase } from "./database/database.ts";
import type { FabricDesires } from "./fabric/desired-items.ts";
import type { JobEngine } from "./jobs/job-engine.ts";
import type { ReplicaHost } from "./replicas/replica-host.ts";
import type { Sealing } from "./sealing/sealing.ts";

/** Ports of the role, as the service hands them in. */
export type VaultPorts = {
  readonly clock: Clock;
  readonly randomness: Randomness;
  readonly scheduler: Scheduler;
  readonly log: Log;
  /** The storage account, as maintainer. */
  readonly store: ObjectStore;
  readonly storageAccess: StorageAccessIssuer;
  /** Runs failed-over machines. */
  readonly replicas: ReplicaHost;
  /**
   * 32 bytes: wraps data keys (ensureDataKey), derives group keys (groupKeyOf) and opens sealed state. Never in the database, a log or a reply.
   */
  readonly vaultKey: Buffer;
  /** Signs the certificates of configuration servers. */
  readonly authority: Identity;
};

/** Gives others access to the storage account. */
export interface StorageAccessIssuer {
  /** For process servers: create, read, list. Valid for at least 72 hours; asked again at a third of that. */
  ingest(vaultId: Uuid): Promise<StorageGrant>;
  /** For master targets and readers: read, list. */
  reader(vaultId: Uuid): Promise<StorageGrant>;
}

/** What the parts of one vault process share. */
export type VaultContext = VaultPorts & {
  readonly database: VaultDatabase;
  readonly jobs: JobEngine;
  readonly fabrics: FabricDesires;
  readonly sealing: Sealing;
};
