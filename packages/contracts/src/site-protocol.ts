import {
  type Shape,
  boolean,
  integer,
  list,
  object,
  optional,
  text,
  uuidText,
} from "@osr/base/json-shape";
import { KIB, SECOND_MS } from "@osr/base/units";
import type { Uuid } from "@osr/base/uuid";

import { type ClaimGrant, claimGrantShape } from "./claim-grant.ts";
import {
  DISKS_PER_MACHINE_MAX,
  type MachineDescription,
  type SessionDisk,
  machineDescriptionShape,
  sessionDiskShape,
} from "./agent-protocol.ts";

/**
 * Agents, process servers and master targets to their configuration server: docs/formats/site-protocol.md. HTTPS on 443
 * (4443 where that cannot be bound), HTTP/1.1, mutual TLS; the certificate says who asks, so no request names its caller.
 *
 * What is wished is a state with a revision, never a command: whoever was away asks for it and has all there is to know.
 */
export const SITE_ROUTES = {
  /** POST MachineRegistration: 204. At start, and when something of it has changed. */
  machine: "/v1/machine",
  /** GET ?after=R: AgentSettings as soon as their revision is not R, or 204 after SITE_WAIT_MS. */
  machineSettings: "/v1/machine/settings",
  /** POST MachineReplicationFacts (replication-facts.ts): 204. */
  machineStatus: "/v1/machine/status",
  /** GET ?after=R: GatewayAssignment as soon as its revision is not R, or 204 after SITE_WAIT_MS. */
  gatewayAssignment: "/v1/gateway/assignment",
  /** POST GatewayFacts (replication-facts.ts): 204. Also registers. */
  gatewayStatus: "/v1/gateway/status",
} as const;

export const SITE_WAIT_MS = 25 * SECOND_MS;
export const AGENT_STATUS_MS = 15 * SECOND_MS;
export const MACHINES_PER_FABRIC_MAX = 1000;

export type MachineRegistration = {
  readonly agentVersion: string;
  readonly machine: MachineDescription;
  /** Comma-separated addresses of the machine's network interfaces. */
  readonly addresses: string;
  /** Every disk that could be replicated. */
  readonly disks: readonly SessionDisk[];
};

export const machineRegistrationShape: Shape<MachineRegistration> = object<MachineRegistration>({
  agentVersion: text(64),
  machine: machineDescriptionShape,
  addresses: text(4 * KIB),
  disks: list(sessionDiskShape, DISKS_PER_MACHINE_MAX),
});

/** What an agent is to do. */
export type AgentSettings = {
  readonly revision: number;
  /** False: no tracking, no freezing, no sending. */
  readonly isProtected: boolean;
  /** Why it is not, where it once was: a code such as LOG_FENCED, to be shown. */
  readonly stoppedReason?: string | undefined;
  readonly processServer?:
    | { readonly id: Uuid; readonly host: string; readonly port: number }
    | undefined;
  /** Disks to leave out, by identity. */
  readonly excludedDisks: readonly string[];
  readonly pointIntervalSeconds: number;
  /** 0: no app-consistent points. */
  readonly appPointIntervalSeconds: number;
  /** Grows where an administrator asks for a comparison of all disks with the log (repair replication). */
  readonly resyncRequest: number;
  /** An order to shut the machine down. It is obeyed once: the agent keeps the id of the last one. */
  readonly shutDownOrder?: Uuid | undefined;
};

export const agentSettingsShape: Shape<AgentSettings> = object<AgentSettings>({
  revision: integer(1),
  isProtected: boolean,
  stoppedReason: optional(text(64)),
  processServer: optional(
    object<{ id: Uuid; host: string; port: number }>({
      id: uuidText,
      host: text(255),
      port: integer(1, 65_535),
    }),
  ),
  excludedDisks: list(text(512), DISKS_PER_MACHINE_MAX),
  pointIntervalSeconds: integer(1),
  appPointIntervalSeconds: integer(0),
  resyncRequest: integer(0),
  shutDownOrder: optional(uuidText),
});

/** How the storage account is reached with one credential. */
export type StorageGrant = {
  readonly endpoint: string;
  readonly container: string;
  /** A token of the embedded storage account or a shared access signature. A secret. */
  readonly token: string;
  readonly authorityPem?: string | undefined;
  readonly expiresUnixMs: number;
};

export const storageGrantShape: Shape<StorageGrant> = object<StorageGrant>({
  endpoint: text(2048),
  container: text(63),
  token: text(4 * KIB),
  authorityPem: optional(text(64 * KIB)),
  expiresUnixMs: integer(0),
});

export type DiskGrant = {
  readonly identity: string;
  readonly diskId: Uuid;
  readonly timeline: number;
  /** 32 bytes in hex. A secret: a process server keeps it in memory only. */
  readonly dataKey: string;
  /** Permission to claim the log although a failover has closed it. */
  readonly claimGrant?: ClaimGrant | undefined;
};

/** A machine that a process server may replicate. */
export type MachineGrant = {
  readonly machineId: Uuid;
  readonly groupId: Uuid;
  /** 32 bytes in hex. A secret. */
  readonly groupKey: string;
  readonly disks: readonly DiskGrant[];
};

export const machineGrantShape: Shape<MachineGrant> = object<MachineGrant>({
  machineId: uuidText,
  groupId: uuidText,
  groupKey: text(64),
  disks: list(
    object<DiskGrant>({
      identity: text(512),
      diskId: uuidText,
      timeline: integer(1),
      dataKey: text(64),
      claimGrant: optional(claimGrantShape),
    }),
    DISKS_PER_MACHINE_MAX,
  ),
});

/** What a process server is to do: machines that are not in it are not admitted. */
export type GatewayAssignment = {
  readonly revision: number;
  readonly vaultId: Uuid;
  readonly storage: StorageGrant;
  readonly machines: readonly MachineGrant[];
  readonly revokedPem?: string | undefined;
};

export const gatewayAssignmentShape: Shape<GatewayAssignment> = object<GatewayAssignment>({
  revision: integer(1),
  vaultId: uuidText,
  storage: storageGrantShape,
  machines: list(machineGrantShape, MACHINES_PER_FABRIC_MAX),
  revokedPem: optional(text(256 * KIB)),
});
