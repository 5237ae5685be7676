import type { JsonObject, JsonValue } from "@osr/base/json-value";
import type { Uuid } from "@osr/base/uuid";

import type { Json, UnixMs } from "../database/core-tables.ts";
import type { ItemPhase, TestPhase } from "./item-state.ts";

/** Tables of protected items. Columns are described here, types in migration 5. */
export type ItemTables = {
  protected_item: ProtectedItemTable;
  recovery_point: RecoveryPointTable;
  recovery_network: RecoveryNetworkTable;
  failover_check: FailoverCheckTable;
  point_listing: PointListingTable;
  replica_machine: ReplicaMachineTable;
  rpo_sample: RpoSampleTable;
};

/** Migration 11. */
export type RpoSampleTable = { item_id: Uuid; sampled_at: UnixMs; rpo_seconds: number };

/** Machines of the recovery site; migration 10. */
export type ReplicaMachineTable = {
  /** Its replicaId. */
  id: Uuid;
  vault_id: Uuid;
  /** The protected machine that it is a replica of. */
  machine_id: Uuid;
  created_at: UnixMs;
};

/** Migration 9. */
export type PointListingTable = {
  vault_id: Uuid;
  group_id: Uuid;
  /** When the index was last brought up to the storage account. */
  listed_at: UnixMs;
};

/** Of items that have a point; migration 7. */
export type FailoverCheckTable = {
  item_id: Uuid;
  /** ReplicaObjection[]. */
  objections: Json<JsonValue>;
  checked_at: UnixMs;
};

export type ProtectedItemTable = {
  id: Uuid;
  vault_id: Uuid;
  fabric_id: Uuid;
  machine_id: Uuid;
  /** Lower-case name: one item of a name in a fabric. */
  key: string;
  name: string;
  /** As the machine calls itself. */
  friendly_name: string;
  policy_id: Uuid;
  group_name: string | null;
  phase: ItemPhase;
  phase_before: ItemPhase;
  test: TestPhase;
  is_fenced: boolean;
  /** What the machine is to be at the recovery site (TargetSettings), and the rest of what a client sent. */
  target: Json<JsonObject>;
  /** Identities of disks that are left out. */
  excluded_disks: Json<JsonValue>;
  /** Identities of the disks that the last wish was made for. */
  known_disks: Json<JsonValue>;
  process_server_id: Uuid | null;
  resync_request: number;
  /** ClaimGrant by disk id: permission for the source to go on with logs that were fenced. */
  claim_grants: Json<JsonObject>;
  /** ReplicaRecord of the failover and of the test failover. */
  replica: Json<JsonObject> | null;
  test_replica: Json<JsonObject> | null;
  /** Newest point that was reported; the storage account knows better. */
  newest_point_slot: number | null;
  newest_point_at: UnixMs | null;
  last_failover_at: UnixMs | null;
  last_test_failover_at: UnixMs | null;
  /** Of the job under way, or the last one. */
  job_id: Uuid | null;
  job_kind: string | null;
  created_at: UnixMs;
  changed_at: UnixMs;
};

export type RecoveryPointTable = {
  vault_id: Uuid;
  group_id: Uuid;
  slot: number;
  /** Its name in the API. */
  cut_id: Uuid;
  class: "crash" | "app";
  made_at: UnixMs;
};

export type RecoveryNetworkTable = {
  id: Uuid;
  vault_id: Uuid;
  key: string;
  name: string;
  subnet: string;
  gateway: string;
  is_isolated: boolean;
  reservations: Json<JsonValue>;
  created_at: UnixMs;
};
