import { DISK_BYTES_MAX } from "@osr/base/block-range";
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

import { TAG_CLASSES, type TagClass } from "./tag.ts";

/**
 * Mobility service to process server: docs/formats/agent-protocol.md. HTTPS on 9443, HTTP/1.1, mutual TLS; the client
 * certificate names the machine. All bodies but batches are JSON.
 */
export const AGENT_PROTOCOL_VERSION = 1;

/** Body of one batch: whole HRL records. */
export const BATCH_BYTES_MAX = 5 * MIB;
/** Batches of one disk that may be under way at once. */
export const BATCHES_IN_FLIGHT_MAX = 4;
/** Intervals of one disk that are not yet vaulted. */
export const INTERVALS_OPEN_MAX = 4;
/** Body of any JSON request. */
export const JSON_BYTES_MAX = MIB;
export const DISKS_PER_MACHINE_MAX = 256;
/** Things that are wrong at once, in one heartbeat or its reply. */
export const HEALTH_ERRORS_MAX = 256;

export const routes = {
  /** POST SessionRequest: SessionReply. Replaces any earlier session of the machine. */
  session: "/v1/session",
  /** POST a batch: BatchReply. */
  batches: (diskId: Uuid): string => `/v1/disks/${diskId}/batches`,
  /** POST HeartbeatRequest: HeartbeatReply. */
  heartbeat: "/v1/heartbeat",
  /** POST ComparisonRequest: ComparisonReply. Fixes the head of the disk's log for a comparison. */
  comparison: (diskId: Uuid): string => `/v1/disks/${diskId}/comparison`,
  /** GET: 16 bytes for each granule from `granule` on; at least one and at most `count`. */
  granuleHashes: (diskId: Uuid, at: GranulesOfComparison): string =>
    `/v1/disks/${diskId}/comparison/${at.headSeq}/hashes?epoch=${at.epoch}&granule=${at.granule}&count=${at.count}`,
  /** GET: 16 bytes for each of the 256 blocks of a granule. */
  blockHashes: (diskId: Uuid, at: GranuleOfComparison): string =>
    `/v1/disks/${diskId}/comparison/${at.headSeq}/blocks?epoch=${at.epoch}&granule=${at.granule}`,
} as const;

/** A granule of 1 MiB of the disk, in a comparison of this session. */
export type GranuleOfComparison = {
  readonly headSeq: number;
  readonly epoch: number;
  readonly granule: number;
};
export type GranulesOfComparison = GranuleOfComparison & { readonly count: number };

/** The machine as it describes itself. */
export type MachineDescription = {
  readonly hostName: string;
  /** SMBIOS system UUID, lower case. */
  readonly biosUuid: string;
  readonly operatingSystem: string;
  readonly kernel: string;
  readonly firmware: "bios" | "uefi";
  readonly cpuCount: number;
  readonly memoryBytes: number;
};

export const machineDescriptionShape: Shape<MachineDescription> = object<MachineDescription>({
  hostName: text(255),
  biosUuid: text(64),
  operatingSystem: text(255),
  kernel: text(255),
  firmware: oneOf("bios", "uefi"),
  cpuCount: integer(1, 65536),
  memoryBytes: integer(0),
});

export type SessionDisk = {
  /** Stable identity of the disk within its machine, such as `wwid:…`, `serial:…`, `ptuuid:…`. */
  readonly identity: string;
  /** Kernel name at the moment, such as `vda`. For people. */
  readonly name: string;
  readonly sizeBytes: number;
  /** True for the disk that holds the boot loader. */
  readonly isBoot: boolean;
};

export type SessionRequest = {
  readonly protocol: number;
  /** Grows with every session of a machine; the newest wins. Names the session in HRL records. */
  readonly epoch: number;
  readonly agentVersion: string;
  readonly machine: MachineDescription;
  readonly disks: readonly SessionDisk[];
};

export const sessionDiskShape: Shape<SessionDisk> = object<SessionDisk>({
  identity: text(512),
  name: text(64),
  sizeBytes: integer(512, DISK_BYTES_MAX),
  isBoot: boolean,
});

export const sessionRequestShape: Shape<SessionRequest> = object<SessionRequest>({
  protocol: integer(1),
  epoch: integer(1),
  agentVersion: text(64),
  machine: machineDescriptionShape,
  disks: list(sessionDiskShape, DISKS_PER_MACHINE_MAX),
});

export type AckedDisk = {
  readonly diskId: Uuid;
  /** Last record that is durable in the process server; -1, -1 where there is none in this session. */
  readonly spooledInterval: number;
  readonly spooledRecordNo: number;
  /** Highest interval that was ended and is in the storage account, over all sessions; 0 where there is none. */
  readonly vaultedInterval: number;
};

const ackedDiskFields = {
  diskId: uuidText,
  spooledInterval: integer(-1),
  spooledRecordNo: integer(-1),
  vaultedInterval: integer(0),
};

export type GrantedDisk = AckedDisk & {
  readonly identity: string;
  /** First interval number that this session may use; higher than any that the log or the spool has seen. */
  readonly nextInterval: number;
  /**
   * Present where the log holds content already, from whatever run of an agent: one that does not know what has changed
   * since compares the disk instead of copying all of it.
   */
  readonly history?: DiskHistory | undefined;
  /**
   * Newest record that is durable here, of whichever session; absent where that is not known. Where it is the agent's own
   * last one or a later one, nothing that was acknowledged is lost, and what is spooled need not be sent again.
   */
  readonly last?: RecordName | undefined;
};

/** One record of a disk's stream. */
export type RecordName = {
  readonly session: number;
  readonly interval: number;
  readonly recordNo: number;
};

export type DiskHistory = {
  /** Of the disk as it was enrolled. */
  readonly sizeBytes: number;
};

export type SessionReply = {
  readonly groupId: Uuid;
  /** Newest slot of the group's recovery points and pending tags; -1 where there is none. */
  readonly newestSlot: number;
  readonly disks: readonly GrantedDisk[];
};

export const sessionReplyShape: Shape<SessionReply> = object<SessionReply>({
  groupId: uuidText,
  newestSlot: integer(-1),
  disks: list(
    object<GrantedDisk>({
      ...ackedDiskFields,
      identity: text(512),
      nextInterval: integer(1),
      history: optional(object<DiskHistory>({ sizeBytes: integer(512, DISK_BYTES_MAX) })),
      last: optional(
        object<RecordName>({ session: integer(0), interval: integer(0), recordNo: integer(0) }),
      ),
    }),
    DISKS_PER_MACHINE_MAX,
  ),
});

/** Answer to a batch: everything in it is durable in the process server. */
export type BatchReply = AckedDisk & {
  /** Back-pressure: wait this long before the next batch of any disk, in ms. */
  readonly delayMs: number;
};

export const batchReplyShape: Shape<BatchReply> = object<BatchReply>({
  ...ackedDiskFields,
  delayMs: integer(0),
});

/** One thing that is wrong at the moment. */
export type HealthError = {
  readonly code: string;
  readonly message: string;
  readonly hint: string;
  readonly diskId?: Uuid;
};

export const healthErrorShape: Shape<HealthError> = object<HealthError>({
  code: text(64),
  message: text(1024),
  hint: text(1024),
  diskId: optional(uuidText),
});

/** How far a disk is at the agent, since the agent was started. */
export type AgentDiskBytes = {
  readonly diskId: Uuid;
  readonly readBytes: number;
  readonly sentBytes: number;
  /** Changed and not read yet. */
  readonly dirtyBytes: number;
  /** While the disk is compared with its log. */
  readonly comparedBytes?: number | undefined;
};

const agentDiskBytesShape: Shape<AgentDiskBytes> = object<AgentDiskBytes>({
  diskId: uuidText,
  readBytes: integer(0),
  sentBytes: integer(0),
  dirtyBytes: integer(0),
  comparedBytes: optional(integer(0)),
});

export type HeartbeatRequest = {
  readonly epoch: number;
  readonly pointsMissed: number;
  /** What is wrong at the machine. */
  readonly health: readonly HealthError[];
  readonly disks?: readonly AgentDiskBytes[] | undefined;
};

export const heartbeatRequestShape: Shape<HeartbeatRequest> = object<HeartbeatRequest>({
  epoch: integer(1),
  pointsMissed: integer(0),
  health: list(healthErrorShape, HEALTH_ERRORS_MAX),
  disks: optional(list(agentDiskBytesShape, DISKS_PER_MACHINE_MAX)),
});

/** A recovery point as the agent is told of it. */
export type PointSummary = {
  readonly slot: number;
  readonly cutId: Uuid;
  readonly class: TagClass;
  readonly unixMs: number;
};

export const pointSummaryShape: Shape<PointSummary> = object<PointSummary>({
  slot: integer(0),
  cutId: uuidText,
  class: oneOf(...TAG_CLASSES),
  unixMs: integer(0),
});

/** Where the bytes of a disk are behind the agent, since the process server was started. */
export type ServerDiskBytes = {
  readonly diskId: Uuid;
  /** Compressed and encrypted, durable in the cache. */
  readonly spooledBytes: number;
  readonly pendingUploadBytes: number;
  readonly vaultedBytes: number;
};

export type HeartbeatReply = {
  readonly disks: readonly AckedDisk[];
  readonly delayMs: number;
  /** Newest recovery point of the group. */
  readonly newestPoint?: PointSummary;
  /** What is wrong at the process server and concerns this machine. */
  readonly health?: readonly HealthError[] | undefined;
  readonly bytes?: readonly ServerDiskBytes[] | undefined;
  /** The process server's clock, so that the agent notices when its own differs. No rule depends on it. */
  readonly unixMs?: number | undefined;
};

export const heartbeatReplyShape: Shape<HeartbeatReply> = object<HeartbeatReply>({
  disks: list(object<AckedDisk>(ackedDiskFields), DISKS_PER_MACHINE_MAX),
  delayMs: integer(0),
  newestPoint: optional(pointSummaryShape),
  health: optional(list(healthErrorShape, HEALTH_ERRORS_MAX)),
  bytes: optional(
    list(
      object<ServerDiskBytes>({
        diskId: uuidText,
        spooledBytes: integer(0),
        pendingUploadBytes: integer(0),
        vaultedBytes: integer(0),
      }),
      DISKS_PER_MACHINE_MAX,
    ),
  ),
  unixMs: optional(integer(0)),
});

export type ComparisonRequest = { readonly epoch: number };

export const comparisonRequestShape: Shape<ComparisonRequest> = object<ComparisonRequest>({
  epoch: integer(1),
});

/** A disk at one head of its log, for comparing by hashes (disk-comparison.ts). */
export type ComparisonReply = {
  /** Number of the log's last segment; it names the comparison. */
  readonly headSeq: number;
  /** Blocks of 4 KiB of the disk; what the log does not have of them counts as zeros. */
  readonly blockCount: number;
  /** In hex. Derived for this head; says nothing about the data key. */
  readonly key: string;
};

export const comparisonReplyShape: Shape<ComparisonReply> = object<ComparisonReply>({
  headSeq: integer(1),
  blockCount: integer(1),
  key: text(64),
});

/** Error codes of the protocol; the HTTP status is in the table of docs/formats/agent-protocol.md. */
export const AGENT_PROTOCOL_STATUS = {
  INPUT_INVALID: 400,
  HRL_INVALID: 400,
  CERTIFICATE_REQUIRED: 401,
  DISK_FOREIGN: 403,
  MACHINE_IS_REPLICA: 403,
  NOT_FOUND: 404,
  SESSION_REPLACED: 409,
  EPOCH_STALE: 409,
  RECORDS_OUT_OF_ORDER: 409,
  LOG_FENCED: 409,
  COMPARISON_GONE: 409,
  COMPARISON_FAILED: 409,
  BODY_TOO_LARGE: 413,
  CACHE_FULL: 503,
  COMPARISON_NOT_READY: 503,
  STOPPING: 503,
} as const;
