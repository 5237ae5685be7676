import type { ColumnType, Generated } from "kysely";

import type { JsonObject, JsonValue } from "@osr/base/json-value";
import type { Uuid } from "@osr/base/uuid";

/** A JSONB column: read as a value, written as text, so that arrays don't become PostgreSQL arrays. */
export type Json<T extends JsonValue> = ColumnType<T, string, string>;
/** A timestamptz: read and written as milliseconds since 1970, through database.ts. */
export type UnixMs = number;

/** Tables of the vault's core. Columns are described in the migrations. */
export type CoreTables = {
  vault: VaultTable;
  vault_document: VaultDocumentTable;
  policy: PolicyTable;
  container_mapping: ContainerMappingTable;
  fabric: FabricTable;
  fabric_machine: FabricMachineTable;
  fabric_gateway: FabricGatewayTable;
  fabric_order: FabricOrderTable;
  fabric_credential: FabricCredentialTable;
  silence: SilenceTable;
  job: JobTable;
  job_task: JobTaskTable;
  job_checkpoint: JobCheckpointTable;
  job_error: JobErrorTable;
  event: EventTable;
  token: TokenTable;
  role_assignment: RoleAssignmentTable;
  audit: AuditTable;
  lease: LeaseTable;
};

export type VaultTable = {
  id: Uuid;
  /** Lower-case ARM id: one vault for a name. */
  key: string;
  arm_id: string;
  subscription_id: string;
  resource_group: string;
  name: string;
  location: string;
  sku: Json<JsonObject>;
  tags: Json<JsonObject>;
  properties: Json<JsonObject>;
  /** ARM's numeric resourceId. */
  number: Generated<number>;
  etag: string;
  created_at: UnixMs;
};

/** Resources that are documents to us: plans, vCenters, network mappings, alert settings, vault settings, extended information. */
export type VaultDocumentTable = {
  vault_id: Uuid;
  /** Lower-case path below the vault: `replicationrecoveryplans/rp1`. */
  key: string;
  /** The same with the letters' case as at creation. */
  path: string;
  /** Lower-case collection: `replicationrecoveryplans`. */
  collection: string;
  name: string;
  properties: Json<JsonObject>;
  created_at: UnixMs;
  changed_at: UnixMs;
};

export type PolicyTable = {
  id: Uuid;
  vault_id: Uuid;
  key: string;
  name: string;
  provider: "InMageAzureV2" | "InMage";
  /** Of a failback policy that was made with its policy. */
  failback_of: Uuid | null;
  rpo_threshold_minutes: number;
  retention_minutes: number;
  point_interval_seconds: number;
  /** 0: none. */
  app_point_interval_seconds: number;
  is_multi_vm: boolean;
  created_at: UnixMs;
  changed_at: UnixMs;
};

export type ContainerMappingTable = {
  id: Uuid;
  vault_id: Uuid;
  fabric_id: Uuid;
  key: string;
  name: string;
  policy_id: Uuid;
  /** As the client wrote it: `Microsoft Azure`, or a container's id. */
  target_container: string;
  created_at: UnixMs;
};

export type FabricTable = {
  id: Uuid;
  vault_id: Uuid;
  key: string;
  name: string;
  host_name: string;
  version: string;
  site_authority_pem: string;
  takeover_key: string;
  /** Of the newest certificate, and of the one before it until the newest was used. */
  certificate_serial: string;
  previous_serial: string | null;
  certificate_expires_at: UnixMs;
  /** Of the desired state; begins with 1. */
  revision: number;
  applied_revision: number;
  /** The newest FabricStatus without its machines and gateways; null until there is one. */
  status: Json<JsonObject> | null;
  last_heartbeat_at: UnixMs | null;
  wants_whole: boolean;
  registered_at: UnixMs;
};

export type FabricMachineTable = {
  fabric_id: Uuid;
  machine_id: Uuid;
  friendly_name: string;
  address: string;
  operating_system: "linux" | "windows";
  /** The FabricMachine as reported. */
  document: Json<JsonObject>;
  last_seen_at: UnixMs | null;
  is_gone: boolean;
  reported_at: UnixMs;
};

export type FabricGatewayTable = {
  fabric_id: Uuid;
  id: Uuid;
  role: "process-server" | "master-target";
  facts: Json<JsonObject>;
  last_seen_at: UnixMs;
};

export type FabricOrderTable = {
  id: Uuid;
  fabric_id: Uuid;
  document: Json<JsonObject>;
  state: "waiting" | "running" | "succeeded" | "failed" | "withdrawn";
  error: Json<JsonObject> | null;
  ordered_at: UnixMs;
  ended_at: UnixMs | null;
};

export type FabricCredentialTable = {
  id: Uuid;
  vault_id: Uuid;
  /** Of the token in the credentials file, or of the certificate (DER) that was uploaded for it. */
  sha256: string;
  expires_at: UnixMs;
  used_at: UnixMs | null;
  created_at: UnixMs;
};

export type JobState =
  | "NotStarted"
  | "InProgress"
  | "Suspended"
  | "Cancelling"
  | "Succeeded"
  | "Failed"
  | "Cancelled";

export type JobTable = {
  id: Uuid;
  vault_id: Uuid;
  kind: string;
  friendly_name: string;
  state: JobState;
  input: Json<JsonValue>;
  target_id: string;
  target_name: string;
  target_type: string;
  resource_path: string;
  details: Json<JsonObject>;
  activity_id: string;
  is_cancellable: boolean;
  permille: number;
  /** 0 at first; each restart is a workflow of its own. */
  attempt: number;
  created_at: UnixMs;
  started_at: UnixMs | null;
  ended_at: UnixMs | null;
};

export type JobTaskTable = {
  job_id: Uuid;
  ordinal: number;
  task_id: string;
  name: string;
  friendly_name: string;
  state:
    | "NotStarted"
    | "InProgress"
    | "Succeeded"
    | "Failed"
    | "Skipped"
    | "Cancelled"
    | "Suspended";
  instructions: string | null;
  started_at: UnixMs | null;
  ended_at: UnixMs | null;
};

/** Results of tasks, steps and transactions of a job: what is here is not run again. */
export type JobCheckpointTable = {
  job_id: Uuid;
  name: string;
  result: Json<JsonValue>;
  lease_token: number;
  made_at: UnixMs;
};

export type JobErrorTable = {
  id: Generated<number>;
  job_id: Uuid;
  task_id: string | null;
  code: string;
  message: string;
  possible_causes: string;
  recommended_action: string;
  occurred_at: UnixMs;
};

export type EventTable = {
  id: Uuid;
  vault_id: Uuid;
  code: string;
  event_type: string;
  severity: "Info" | "Warning" | "Error";
  description: string;
  affected_name: string;
  affected_id: string;
  fabric_id: Uuid | null;
  details: Json<JsonObject>;
  occurred_at: UnixMs;
};

/** Whose heartbeat is missing; migration 8. */
export type SilenceTable = {
  fabric_id: Uuid;
  kind: "configuration-server" | "process-server" | "master-target" | "mobility-service";
  id: Uuid;
  since: UnixMs;
};

export type TokenTable = {
  id: Uuid;
  name: string;
  sha256: string;
  created_at: UnixMs;
  expires_at: UnixMs;
  revoked_at: UnixMs | null;
};

export type RoleAssignmentTable = {
  id: Uuid;
  token_id: Uuid;
  role: string;
  /** Lower-case path prefix: `/`, `/subscriptions/s`, an ARM id. */
  scope: string;
  created_at: UnixMs;
};

export type AuditTable = {
  id: Generated<number>;
  at: UnixMs;
  caller: string;
  token_id: Uuid | null;
  method: string;
  path: string;
  action: string;
  activity_id: string;
  /** HTTP status; 202 and 2xx are what was done. */
  status: number;
  code: string | null;
  job_id: Uuid | null;
};

export type LeaseTable = {
  /** Always 1: there is one lease. */
  id: number;
  node_id: Uuid;
  token: number;
  renewed_at: UnixMs;
};
