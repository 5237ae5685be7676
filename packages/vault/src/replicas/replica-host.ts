import type { JsonObject } from "@osr/base/json-value";
import type { Uuid } from "@osr/base/uuid";

/** Which recovery point a replica starts from. */
export type ReplicaPoint =
  | { readonly kind: "latest" | "latest-processed" }
  | { readonly kind: "custom"; readonly slot: number };

/** A network of the recovery site, as the compute provider is told of it. */
export type ReplicaNetwork = {
  /** Unique at the recovery site; at most 8 characters of [a-z0-9]. */
  readonly name: string;
  readonly subnet: string;
  readonly gateway: string;
  readonly isIsolated: boolean;
  readonly reservations: readonly {
    readonly mac: string;
    readonly address: string;
    readonly hostName: string;
  }[];
};

export type ReplicaSpec = {
  /** A function of the job, so that starting again is starting the same. */
  readonly replicaId: Uuid;
  readonly vaultId: Uuid;
  readonly machineId: Uuid;
  readonly groupId: Uuid;
  readonly point: ReplicaPoint;
  readonly name: string;
  readonly cpuCount?: number | undefined;
  readonly memoryBytes?: number | undefined;
  readonly network?: ReplicaNetwork | undefined;
  readonly mac?: string | undefined;
};

/** A machine at the recovery site that runs from a recovery point. */
export type ReplicaFacts = {
  readonly replicaId: Uuid;
  readonly machineId: Uuid;
  readonly name: string;
  readonly state: "created" | "running" | "stopped" | "failed";
  readonly reason?: string | undefined;
  readonly point: {
    readonly slot: number;
    readonly cutId: Uuid;
    readonly class: "crash" | "app";
    readonly unixMs: number;
  };
  readonly network?: string | undefined;
  /** Whether all of its disks are on local storage, so that it needs the storage account no more. */
  readonly isLocal: boolean;
};

/** Why a replica could not be started, found without starting it. */
export type ReplicaObjection = { readonly code: string; readonly message: string };

/** Who asks: effects of a vault process that was taken for dead are refused. */
export type AskedBy = { readonly jobId: Uuid; readonly leaseToken: number };

/**
 * Runs replicas of protected machines. The law:
 * - every call may be repeated: `start` of a replica that runs gives it, `destroy` of one that is gone succeeds;
 * - a call with a lease token below the highest one seen is refused with LEASE_STALE and has no effect;
 * - a `start` that fails or is aborted leaves nothing of the replica;
 * - a replica outlives the vault and, where its disks are not local yet, waits while nobody serves them: a successor
 *   of the host takes over all that its predecessor ran.
 */
export interface ReplicaHost {
  /** Empty where nothing is in the way. */
  preflight(spec: ReplicaSpec, signal: AbortSignal): Promise<readonly ReplicaObjection[]>;
  start(spec: ReplicaSpec, by: AskedBy, signal: AbortSignal): Promise<ReplicaFacts>;
  destroy(replicaId: Uuid, by: AskedBy): Promise<void>;
  /** Undefined where there is no such replica. */
  facts(replicaId: Uuid): Promise<ReplicaFacts | undefined>;
  list(): Promise<readonly ReplicaFacts[]>;
  /** The last `bytesMax` bytes of its serial console; empty where there is no such replica. */
  console(replicaId: Uuid, bytesMax: number): Promise<string>;
  /** What is on its screen: a PNG. Undefined where there is no such replica, or it does not run. */
  screenshot(replicaId: Uuid): Promise<Buffer | undefined>;
}

/** What the vault keeps of a replica. */
export type ReplicaRecord = {
  readonly replicaId: Uuid;
  readonly slot: number;
  readonly cutId: Uuid;
  readonly pointUnixMs: number;
  readonly network?: string | undefined;
};

export function recordOf({ replicaId, point, network }: ReplicaFacts): JsonObject {
  const record: ReplicaRecord = {
    replicaId,
    slot: point.slot,
    cutId: point.cutId,
    pointUnixMs: point.unixMs,
    ...(network === undefined ? {} : { network }),
  };
  return record;
}
