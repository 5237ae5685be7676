import {
  type Shape,
  boolean,
  integer,
  list,
  object,
  oneOf,
  optional,
  text,
  uuidText,
} from "@osr/base/json-shape";
import { KIB, SECOND_MS } from "@osr/base/units";
import type { Uuid } from "@osr/base/uuid";

import { DISKS_PER_MACHINE_MAX, type HealthError, healthErrorShape } from "./agent-protocol.ts";
import {
  type GatewayFacts,
  type MachineReplicationFacts,
  gatewayFactsShape,
  machineReplicationFactsShape,
} from "./replication-facts.ts";
import {
  MACHINES_PER_FABRIC_MAX,
  type MachineGrant,
  type MachineRegistration,
  type StorageGrant,
  machineGrantShape,
  machineRegistrationShape,
  storageGrantShape,
} from "./site-protocol.ts";

/**
 * Configuration server to vault: docs/formats/fabric-protocol.md. HTTPS on the vault's port, outbound only, mutual TLS
 * under the vault's authority; the certificate `osr://configuration-server/<fabricId>` says which fabric asks.
 *
 * The vault says what it wishes as one state with a revision; the configuration server works towards it and says what it
 * sees. So hours without each other need no queue and no replay, and a command that was carried out twice is no command.
 * What is done once and has an end is an order in that state: it stays there until its result has been taken.
 */
export const FABRIC_ROUTES = {
  /** POST FabricRegistration without a client certificate: FabricRegistrationReply. */
  registration: "/fabric/v1/registration",
  /** POST RenewalRequest (enrolment.ts): EnrolmentReply. */
  renewal: "/fabric/v1/renewal",
  /** GET ?after=R: DesiredFabric as soon as its revision is not R, or 204 after FABRIC_WAIT_MS. */
  desired: "/fabric/v1/desired",
  /** POST FabricStatus: FabricStatusReply. Every FABRIC_STATUS_MS, and at once when an order has ended. */
  status: "/fabric/v1/status",
} as const;

export const FABRIC_WAIT_MS = 25 * SECOND_MS;
export const FABRIC_STATUS_MS = 15 * SECOND_MS;
export const ORDERS_MAX = 1000;
export const PROCESS_SERVERS_PER_FABRIC_MAX = 100;
const RUN_AS_ACCOUNTS_MAX = 1000;

/** Content of a vault credentials file: made by the vault, valid once and for a few days. */
export type VaultCredentials = {
  readonly vaultUrl: string;
  /** The vault's authority: pinned, so the first connection is to the right vault. */
  readonly vaultAuthorityPem: string;
  /** ARM id of the vault. For people. */
  readonly vaultArmId: string;
  /** 32 bytes in hex. A secret. */
  readonly token: string;
  readonly expiresUnixMs: number;
};

export const vaultCredentialsShape: Shape<VaultCredentials> = object<VaultCredentials>({
  vaultUrl: text(2048),
  vaultAuthorityPem: text(16 * KIB),
  vaultArmId: text(2048),
  token: text(64),
  expiresUnixMs: integer(0),
});

export type FabricRegistration = {
  readonly token: string;
  /** As people see it, and its name in the API; the vault refuses one that is taken by another fabric. */
  readonly name: string;
  /** Of a configuration server that takes over a fabric which is registered already: proof as in `takeover`. */
  readonly fabricId?: Uuid | undefined;
  /** HMAC-SHA256(the 32 bytes of the registered fabric's takeoverKey, csrPem) in hex: only who has the site's secret takes over. */
  readonly takeover?: string | undefined;
  /** HMAC-SHA256(site secret, "osr1|fabric-takeover") in hex: kept by the vault, and the key that checks `takeover`. A secret. */
  readonly takeoverKey: string;
  readonly csrPem: string;
  readonly hostName: string;
  readonly version: string;
  readonly siteAuthorityPem: string;
};

export const fabricRegistrationShape: Shape<FabricRegistration> = object<FabricRegistration>({
  token: text(64),
  name: text(64),
  fabricId: optional(uuidText),
  takeover: optional(text(64)),
  takeoverKey: text(64),
  csrPem: text(16 * KIB),
  hostName: text(255),
  version: text(64),
  siteAuthorityPem: text(16 * KIB),
});

export type FabricRegistrationReply = {
  readonly fabricId: Uuid;
  /** Of the storage account's objects. */
  readonly vaultId: Uuid;
  readonly certificatePem: string;
  readonly authorityPem: string;
  readonly renewAtUnixMs: number;
};

export const fabricRegistrationReplyShape: Shape<FabricRegistrationReply> =
  object<FabricRegistrationReply>({
    fabricId: uuidText,
    vaultId: uuidText,
    certificatePem: text(16 * KIB),
    authorityPem: text(16 * KIB),
    renewAtUnixMs: integer(0),
  });

/** A machine with replication enabled, as the vault wishes it. A machine that is not listed is not protected. */
export type DesiredItem = {
  /** Ids and keys of its disks; empty until the machine has registered. */
  readonly grant: MachineGrant;
  /** False after a failover or while disabling: the agent stops, and says why. */
  readonly isProtected: boolean;
  readonly stoppedReason?: string | undefined;
  readonly excludedDisks: readonly string[];
  readonly pointIntervalSeconds: number;
  readonly appPointIntervalSeconds: number;
  readonly resyncRequest: number;
  /** Absent: the configuration server chooses by load and health. */
  readonly processServerId?: Uuid | undefined;
};

const desiredItemShape: Shape<DesiredItem> = object<DesiredItem>({
  grant: machineGrantShape,
  isProtected: boolean,
  stoppedReason: optional(text(64)),
  excludedDisks: list(text(512), DISKS_PER_MACHINE_MAX),
  pointIntervalSeconds: integer(1),
  appPointIntervalSeconds: integer(0),
  resyncRequest: integer(0),
  processServerId: optional(uuidText),
});

/**
 * Something to be done once.
 * - `discover-machine`: a physical machine under `address`; it becomes a discovered machine, its agent may come later;
 * - `shut-down-machine`: asks the machine's agent to shut it down, and reports whether it went silent;
 * - `refresh`: look at everything again and report a whole status.
 */
export type Order = {
  readonly id: Uuid;
  readonly kind: "discover-machine" | "shut-down-machine" | "refresh";
  readonly machineId?: Uuid | undefined;
  readonly friendlyName?: string | undefined;
  readonly address?: string | undefined;
  readonly operatingSystem?: "linux" | "windows" | undefined;
};

const orderShape: Shape<Order> = object<Order>({
  id: uuidText,
  kind: oneOf("discover-machine", "shut-down-machine", "refresh"),
  machineId: optional(uuidText),
  friendlyName: optional(text(255)),
  address: optional(text(255)),
  operatingSystem: optional(oneOf("linux", "windows")),
});

export type DesiredFabric = {
  readonly revision: number;
  readonly vaultId: Uuid;
  readonly storage: StorageGrant;
  readonly items: readonly DesiredItem[];
  readonly orders: readonly Order[];
};

export const desiredFabricShape: Shape<DesiredFabric> = object<DesiredFabric>({
  revision: integer(1),
  vaultId: uuidText,
  storage: storageGrantShape,
  items: list(desiredItemShape, MACHINES_PER_FABRIC_MAX),
  orders: list(orderShape, ORDERS_MAX),
});

export type OrderResult = {
  readonly orderId: Uuid;
  readonly state: "running" | "succeeded" | "failed";
  /** Where it failed: code, cause and remedy. */
  readonly error?: HealthError | undefined;
};

export const orderResultShape: Shape<OrderResult> = object<OrderResult>({
  orderId: uuidText,
  state: oneOf("running", "succeeded", "failed"),
  error: optional(healthErrorShape),
});

/** A machine that the fabric knows: its agent has enrolled, or somebody named its address. */
export type FabricMachine = {
  /** Of the enrolled agent; of a machine without one, an id made from its address. */
  readonly machineId: Uuid;
  readonly friendlyName: string;
  readonly address: string;
  readonly operatingSystem: "linux" | "windows";
  /** Absent: no agent yet. */
  readonly registration?: MachineRegistration | undefined;
  /** When its agent was last heard of, by the configuration server's clock. */
  readonly lastSeenUnixMs?: number | undefined;
  readonly facts?: MachineReplicationFacts | undefined;
  readonly isGone?: boolean | undefined;
};

export const fabricMachineShape: Shape<FabricMachine> = object<FabricMachine>({
  machineId: uuidText,
  friendlyName: text(255),
  address: text(4 * KIB),
  operatingSystem: oneOf("linux", "windows"),
  registration: optional(machineRegistrationShape),
  lastSeenUnixMs: optional(integer(0)),
  facts: optional(machineReplicationFactsShape),
  isGone: optional(boolean),
});

export type FabricGateway = {
  readonly id: Uuid;
  readonly role: "process-server" | "master-target";
  readonly lastSeenUnixMs: number;
  readonly facts: GatewayFacts;
};

export const fabricGatewayShape: Shape<FabricGateway> = object<FabricGateway>({
  id: uuidText,
  role: oneOf("process-server", "master-target"),
  lastSeenUnixMs: integer(0),
  facts: gatewayFactsShape,
});

export type RunAsAccount = { readonly accountId: string; readonly accountName: string };

export type FabricStatus = {
  /** Of the desired state that the configuration server works with; 0: none yet. */
  readonly appliedRevision: number;
  readonly hostName: string;
  readonly version: string;
  readonly unixMs: number;
  readonly certificateExpiresUnixMs: number;
  /** True: `machines` are all there are. Else only those that have changed since the last report that was answered. */
  readonly isWhole: boolean;
  readonly machines: readonly FabricMachine[];
  readonly gateways: readonly FabricGateway[];
  readonly runAsAccounts: readonly RunAsAccount[];
  readonly orderResults: readonly OrderResult[];
  readonly health: readonly HealthError[];
};

export const fabricStatusShape: Shape<FabricStatus> = object<FabricStatus>({
  appliedRevision: integer(0),
  hostName: text(255),
  version: text(64),
  unixMs: integer(0),
  certificateExpiresUnixMs: integer(0),
  isWhole: boolean,
  machines: list(fabricMachineShape, MACHINES_PER_FABRIC_MAX),
  gateways: list(fabricGatewayShape, PROCESS_SERVERS_PER_FABRIC_MAX),
  runAsAccounts: list(
    object<RunAsAccount>({ accountId: text(64), accountName: text(255) }),
    RUN_AS_ACCOUNTS_MAX,
  ),
  orderResults: list(orderResultShape, ORDERS_MAX),
  health: list(healthErrorShape, 256),
});

export type FabricStatusReply = {
  /** The vault knows less than it should (it was rebuilt): the next report is to be a whole one. */
  readonly wantsWhole: boolean;
};

export const fabricStatusReplyShape: Shape<FabricStatusReply> = object<FabricStatusReply>({
  wantsWhole: boolean,
});
