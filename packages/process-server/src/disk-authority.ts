import type { Uuid } from "@osr/base/uuid";
import type { SessionRequest } from "@osr/contracts/agent-protocol";
import type { ClaimGrant } from "@osr/contracts/claim-grant";
import type { DataKey } from "@osr/repository/key-schedule";

/** A disk that a machine may write, and the key its data is encrypted with. */
export type AdmittedDisk = {
  /** As in the request. */
  readonly identity: string;
  readonly diskId: Uuid;
  readonly timeline: number;
  readonly dataKey: DataKey;
  /** The vault's permission to claim the log although its machine has failed over. */
  readonly grant?: ClaimGrant;
};

export type Admission = {
  readonly groupId: Uuid;
  readonly groupKey: Buffer;
  /** One for each disk of the request. */
  readonly disks: readonly AdmittedDisk[];
};

/**
 * Says which disks a machine may write and holds their keys. Whoever is admitted may also take over the log of the disk
 * from another process server. `admit` may be called any number of times and gives the same ids for the same machine and
 * identities; it rejects with an OsrError whose code the agent is shown (retryable ones as 503).
 */
export interface DiskAuthority {
  admit(machineId: Uuid, request: SessionRequest, signal: AbortSignal): Promise<Admission>;
}
