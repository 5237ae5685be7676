import { DISK_BYTES_MAX } from "@osr/base/block-range";
import {
  type Shape,
  integer,
  list,
  object,
  oneOf,
  optional,
  text,
  uuidText,
} from "@osr/base/json-shape";
import type { Uuid } from "@osr/base/uuid";

import {
  DISKS_PER_MACHINE_MAX,
  type HealthError,
  type PointSummary,
  healthErrorShape,
  pointSummaryShape,
} from "./agent-protocol.ts";

/** What is known of a machine's replication: the agent and the process server know parts of it, the vault shows all. */

/** Of a disk. Bytes are totals since the agent was started; a reader that wants rates keeps the report before. */
export type DiskReplicationFacts = {
  readonly identity: string;
  readonly name: string;
  readonly sizeBytes: number;
  /** As in the agent's status: initial, resync, delta, waiting, critical. */
  readonly stage: "waiting" | "initial" | "resync" | "delta" | "critical";
  /** Of initial replication or resync, in thousandths. */
  readonly progressPermille: number;
  readonly resyncReason?: string | undefined;
  readonly resyncDifferentBytes?: number | undefined;
  /** Backlog of each hop: at the agent, in the process server's cache. */
  readonly dirtyBytes: number;
  readonly pendingUploadBytes?: number | undefined;
  readonly readBytes: number;
  readonly sentBytes: number;
  readonly uploadedBytes?: number | undefined;
  readonly secondsLeft?: number | undefined;
};

export const diskReplicationFactsShape: Shape<DiskReplicationFacts> = object<DiskReplicationFacts>({
  identity: text(512),
  name: text(64),
  sizeBytes: integer(0, DISK_BYTES_MAX),
  stage: oneOf("waiting", "initial", "resync", "delta", "critical"),
  progressPermille: integer(0, 1000),
  resyncReason: optional(text(64)),
  resyncDifferentBytes: optional(integer(0)),
  dirtyBytes: integer(0),
  pendingUploadBytes: optional(integer(0)),
  readBytes: integer(0),
  sentBytes: integer(0),
  uploadedBytes: optional(integer(0)),
  secondsLeft: optional(integer(0)),
});

/** Of a machine, as its agent tells the configuration server every AGENT_STATUS_MS. */
export type MachineReplicationFacts = {
  /** idle: not protected, or not told yet. replica: it is not the machine that was enrolled. */
  readonly state:
    | "idle"
    | "connecting"
    | "initial"
    | "resync"
    | "protected"
    | "critical"
    | "replica"
    | "stopped";
  readonly agentVersion: string;
  readonly processServerId?: Uuid | undefined;
  readonly newestPoint?: PointSummary | undefined;
  readonly pointsMade: number;
  readonly pointsMissed: number;
  readonly frozenMs?: number | undefined;
  readonly disks: readonly DiskReplicationFacts[];
  readonly health: readonly HealthError[];
};

export const machineReplicationFactsShape: Shape<MachineReplicationFacts> =
  object<MachineReplicationFacts>({
    state: oneOf(
      "idle",
      "connecting",
      "initial",
      "resync",
      "protected",
      "critical",
      "replica",
      "stopped",
    ),
    agentVersion: text(64),
    processServerId: optional(uuidText),
    newestPoint: optional(pointSummaryShape),
    pointsMade: integer(0),
    pointsMissed: integer(0),
    frozenMs: optional(integer(0)),
    disks: list(diskReplicationFactsShape, DISKS_PER_MACHINE_MAX),
    health: list(healthErrorShape, 256),
  });

/** Of a process server or master target. */
export type GatewayFacts = {
  readonly hostName: string;
  readonly version: string;
  /** Where agents reach it; absent for a master target. */
  readonly address?: { readonly host: string; readonly port: number } | undefined;
  readonly certificateExpiresUnixMs: number;
  /** 0 to 1000. */
  readonly cacheFreePermille: number;
  readonly cpuPermille: number;
  readonly memoryPermille: number;
  readonly pendingUploadBytes: number;
  readonly uploadBytesPerSecond?: number | undefined;
  readonly protectedMachines: number;
  readonly health: readonly HealthError[];
};

export const gatewayFactsShape: Shape<GatewayFacts> = object<GatewayFacts>({
  hostName: text(255),
  version: text(64),
  address: optional(
    object<{ host: string; port: number }>({ host: text(255), port: integer(1, 65_535) }),
  ),
  certificateExpiresUnixMs: integer(0),
  cacheFreePermille: integer(0, 1000),
  cpuPermille: integer(0, 1000),
  memoryPermille: integer(0, 1000),
  pendingUploadBytes: integer(0),
  uploadBytesPerSecond: optional(integer(0)),
  protectedMachines: integer(0),
  health: list(healthErrorShape, 256),
});
