import type { JsonObject } from "@osr/base/json-value";
import type { Uuid } from "@osr/base/uuid";
import type {
  AskedBy,
  ReplicaFacts,
  ReplicaObjection,
  ReplicaSpec,
} from "@osr/contracts/replica-host";

/**
 * Runs replicas of protected machines. The law:
 * - every call may be repeated: `start` of a replica that runs gives it, `destroy` of one that is gone succeeds;
 * - a call with a lease token below the highest one seen is refused with LEASE_STALE and has no effect;
 * - a `start` that fails or is aborted leaves nothing of the replica;
 * - a replica outlives the vault and, where its disks are not local yet, waits while nobody serves them: a successor
 *   of the host takes over all that its predecessor ran;
 * - a host that is away is waited for by `preflight`, `start` and `destroy`, about a minute; what only looks (`facts`, `list`, `console`, `screenshot`)
 *   is answered or fails within some seconds.
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
