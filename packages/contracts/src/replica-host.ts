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
import { MIB } from "@osr/base/units";
import type { Uuid } from "@osr/base/uuid";

/**
 * Vault to replica host: docs/formats/replica-host.md. HTTP/1.1 and JSON over a unix socket that only its owner may open.
 */
export const REPLICA_HOST_ROUTES = {
  /** GET ReplicaList; POST StartRequest: ReplicaReply, as soon as the replica runs. */
  replicas: "/v1/replicas",
  /** POST ReplicaSpec: PreflightReply. */
  preflight: "/v1/preflight",
  /** GET ReplicaReply. */
  replica: (replicaId: Uuid): string => `/v1/replicas/${replicaId}`,
  /** POST AskedBy: 204. Ends a start that is under way, too. */
  destroy: (replicaId: Uuid): string => `/v1/replicas/${replicaId}/destroy`,
  /** GET ConsoleReply. */
  console: (replicaId: Uuid, bytesMax: number): string =>
    `/v1/replicas/${replicaId}/console?bytes=${bytesMax}`,
  /** GET ScreenshotReply. */
  screenshot: (replicaId: Uuid): string => `/v1/replicas/${replicaId}/screenshot`,
} as const;

export const REPLICA_HOST_BODY_BYTES_MAX = MIB;
export const REPLICA_CONSOLE_BYTES_MAX = 8 * MIB;
const REPLICAS_MAX = 1000;
const RESERVATIONS_MAX = 256;
const OBJECTIONS_MAX = 256;
const SCREENSHOT_CHARS_MAX = 15 * MIB;

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

/** What is in the way of a replica, found without starting it. */
export type ReplicaObjection = {
  readonly code: string;
  /** With an error it cannot be started; with a warning it can, but look at it. */
  readonly level: "error" | "warning";
  readonly message: string;
  readonly hint: string;
};

/** Who asks: effects of a vault process that was taken for dead are refused. */
export type AskedBy = { readonly jobId: Uuid; readonly leaseToken: number };

export type StartRequest = { readonly spec: ReplicaSpec; readonly by: AskedBy };
export type ReplicaReply = { readonly replica?: ReplicaFacts | undefined };
export type ReplicaList = { readonly replicas: readonly ReplicaFacts[] };
export type PreflightReply = { readonly objections: readonly ReplicaObjection[] };
export type ConsoleReply = { readonly text: string };
/** PNG in base64; absent where nothing runs. */
export type ScreenshotReply = { readonly png?: string | undefined };

const pointFields = object<{
  kind: "latest" | "latest-processed" | "custom";
  slot: number | undefined;
}>({ kind: oneOf("latest", "latest-processed", "custom"), slot: optional(integer(0)) });

const pointShape: Shape<ReplicaPoint> = (value, path) => {
  const { kind, slot } = pointFields(value, path);
  return kind === "custom" ? { kind, slot: integer(0)(slot, `${path}.slot`) } : { kind };
};

const networkShape: Shape<ReplicaNetwork> = object<ReplicaNetwork>({
  name: text(8),
  subnet: text(18),
  gateway: text(15),
  isIsolated: boolean,
  reservations: list(
    object<ReplicaNetwork["reservations"][number]>({
      mac: text(17),
      address: text(15),
      hostName: text(255),
    }),
    RESERVATIONS_MAX,
  ),
});

export const replicaSpecShape: Shape<ReplicaSpec> = object<ReplicaSpec>({
  replicaId: uuidText,
  vaultId: uuidText,
  machineId: uuidText,
  groupId: uuidText,
  point: pointShape,
  name: text(255),
  cpuCount: optional(integer(1)),
  memoryBytes: optional(integer(1)),
  network: optional(networkShape),
  mac: optional(text(17)),
});

export const askedByShape: Shape<AskedBy> = object<AskedBy>({
  jobId: uuidText,
  leaseToken: integer(0),
});

export const startRequestShape: Shape<StartRequest> = object<StartRequest>({
  spec: replicaSpecShape,
  by: askedByShape,
});

const replicaFactsShape: Shape<ReplicaFacts> = object<ReplicaFacts>({
  replicaId: uuidText,
  machineId: uuidText,
  name: text(255),
  state: oneOf("created", "running", "stopped", "failed"),
  reason: optional(text(4096)),
  point: object<ReplicaFacts["point"]>({
    slot: integer(0),
    cutId: uuidText,
    class: oneOf("crash", "app"),
    unixMs: integer(0),
  }),
  network: optional(text(64)),
  isLocal: boolean,
});

export const replicaReplyShape: Shape<ReplicaReply> = object<ReplicaReply>({
  replica: optional(replicaFactsShape),
});

export const replicaListShape: Shape<ReplicaList> = object<ReplicaList>({
  replicas: list(replicaFactsShape, REPLICAS_MAX),
});

export const preflightReplyShape: Shape<PreflightReply> = object<PreflightReply>({
  objections: list(
    object<ReplicaObjection>({
      code: text(64),
      level: oneOf("error", "warning"),
      message: text(4096),
      hint: text(4096),
    }),
    OBJECTIONS_MAX,
  ),
});

export const consoleReplyShape: Shape<ConsoleReply> = object<ConsoleReply>({
  text: text(REPLICA_CONSOLE_BYTES_MAX),
});

export const screenshotReplyShape: Shape<ScreenshotReply> = object<ScreenshotReply>({
  png: optional(text(SCREENSHOT_CHARS_MAX)),
});
