import { defineErrors } from "@osr/base/errors";
import type { JsonObject } from "@osr/base/json-value";
import { isoTime } from "@osr/base/platform/iso-time";
import { HOUR_MS, MINUTE_MS, formatDuration } from "@osr/base/units";
import type { Uuid } from "@osr/base/uuid";
import type { HealthError } from "@osr/contracts/agent-protocol";
import type { GatewayFacts } from "@osr/contracts/replication-facts";

import type { VaultRow } from "../arm/resource-routes.ts";
import type { ProtectedMachine } from "../fabric/desired-items.ts";
import { type FabricRow, reportOf } from "./fabric-row.ts";
import { type HealthLevel, serverLevel, signalStatus } from "./health-level.ts";
import { resourceBody } from "./resource-body.ts";

/** Thresholds of site-recovery: no heartbeat for this long is critical. */
export const HEARTBEAT_MISSING_MS = 15 * MINUTE_MS;
/** A configuration server's clock that is further away is told, and its times are not taken as they are. */
export const CLOCK_SKEW_MS_MAX = MINUTE_MS;
const CERTIFICATE_WARNING_DAYS = 7;
const DAY_MS = 24 * HOUR_MS;
const NEVER = "9999-12-31T23:59:59.9999999";

const SERVER_HEALTH = defineErrors({
  HEARTBEAT_MISSING: {
    retryable: true,
    hint: "Check that it runs and that the vault can be reached from it. Replication goes on meanwhile.",
  },
  CERTIFICATE_EXPIRING: {
    retryable: true,
    hint: "It is renewed by itself at two thirds of its life; look why that has not happened.",
  },
});

export type Health = "Normal" | "Warning" | "Critical";

export type GatewayRow = {
  readonly id: Uuid;
  readonly role: "process-server" | "master-target";
  readonly facts: JsonObject;
  readonly last_seen_at: number;
};

/** A fabric as ARM shows it: the configuration server and all behind it. */
export function fabricBody(
  vault: VaultRow,
  row: FabricRow,
  gateways: readonly GatewayRow[],
  machines: readonly ProtectedMachine[],
  nowMs: number,
): JsonObject {
  const errors = fabricErrors(row, nowMs);
  return resourceBody(vault, ["replicationFabrics", row.name], {
    friendlyName: row.name,
    encryptionDetails: { kekState: "None", kekCertThumbprint: null },
    rolloverEncryptionDetails: { kekState: "None", kekCertThumbprint: null },
    internalIdentifier: row.id,
    bcdrState: "Valid",
    health: worst(errors),
    healthErrorDetails: errors.map((error) => healthErrorBody(error, nowMs)),
    customDetails: customDetails(row, gateways, machines, nowMs),
  });
}

function customDetails(
  row: FabricRow,
  gateways: readonly GatewayRow[],
  machines: readonly ProtectedMachine[],
  nowMs: number,
): JsonObject {
  const report = reportOf(row);
  const servers = gateways.filter(({ role }) => role === "process-server");
  const targets = gateways.filter(({ role }) => role === "master-target");
  return {
    instanceType: "VMware",
    hostName: row.host_name,
    ipAddress: "",
    agentVersion: row.version,
    versionStatus: "Supported",
    lastHeartbeat: row.last_heartbeat_at === null ? null : isoTime(row.last_heartbeat_at),
    csServiceStatus: isSilent(row.last_heartbeat_at, nowMs) ? "Unknown" : "Running",
    processServerCount: String(servers.length),
    agentCount: String(machines.length),
    protectedServers: String(machines.length),
    replicationPairCount: String(machines.length),
    sslCertExpiryDate: isoTime(row.certificate_expires_at),
    sslCertExpiryRemainingDays: daysLeft(row.certificate_expires_at, nowMs),
    agentExpiryDate: NEVER,
    processServers: servers.map((one) => processServerBody(one, machines, nowMs)),
    masterTargetServers: targets.map((one) => masterTargetBody(one, nowMs)),
    runAsAccounts: (report?.runAsAccounts ?? []).map((account) => ({ ...account })),
  };
}

function processServerBody(
  row: GatewayRow,
  machines: readonly ProtectedMachine[],
  nowMs: number,
): JsonObject {
  const facts = factsOf(row);
  const errors = gatewayErrors(row, nowMs);
  const own = machines.filter(({ processServerId }) => processServerId === row.id);
  return {
    friendlyName: facts.hostName,
    id: row.id,
    hostId: row.id,
    ipAddress: facts.address?.host ?? "",
    osType: "Linux",
    agentVersion: facts.version,
    lastHeartbeat: isoTime(row.last_seen_at),
    versionStatus: "Supported",
    mobilityServiceUpdates: [],
    machineCount: String(own.length),
    replicationPairCount: String(own.length),
    systemLoadStatus: signalStatus(facts.health, "CPU", "MEMORY"),
    cpuLoad: `${Math.round(facts.cpuPermille / 10)}%`,
    cpuLoadStatus: signalStatus(facts.health, "CPU"),
    memoryUsageStatus: signalStatus(facts.health, "MEMORY"),
    spaceUsageStatus: signalStatus(facts.health, "CACHE"),
    psServiceStatus: isSilent(row.last_seen_at, nowMs) ? "Unknown" : "Running",
    sslCertExpiryDate: isoTime(facts.certificateExpiresUnixMs),
    sslCertExpiryRemainingDays: daysLeft(facts.certificateExpiresUnixMs, nowMs),
    osVersion: null,
    health: worst(errors),
    healthErrors: errors.map((error) => healthErrorBody(error, nowMs)),
    psStatsRefreshTime: isoTime(row.last_seen_at),
    throughputUploadPendingDataInBytes: facts.pendingUploadBytes,
    throughputInBytes: facts.uploadBytesPerSecond ?? 0,
    throughputInMBps: Math.floor((facts.uploadBytesPerSecond ?? 0) / 1_000_000),
    throughputStatus: signalStatus(facts.health, "DRAIN_TIME"),
    marsCommunicationStatus: "1",
    marsRegistrationStatus: "1",
  };
}

function masterTargetBody(row: GatewayRow, nowMs: number): JsonObject {
  const facts = factsOf(row);
  return {
    id: row.id,
    name: facts.hostName,
    ipAddress: facts.address?.host ?? "",
    osType: "Linux",
    agentVersion: facts.version,
    lastHeartbeat: isoTime(row.last_seen_at),
    versionStatus: "Supported",
    retentionVolumes: [],
    dataStores: [],
    validationErrors: [],
    healthErrors: gatewayErrors(row, nowMs).map((error) => healthErrorBody(error, nowMs)),
    diskCount: 0,
    osVersion: null,
  };
}

type Problem = HealthError & { readonly level: HealthLevel };

/** What is wrong with a configuration server at the moment. */
export function fabricErrors(row: FabricRow, nowMs: number): readonly Problem[] {
  const reported = (reportOf(row)?.health ?? []).map(judged);
  return [
    ...reported,
    ...silence(
      row.last_heartbeat_at ?? row.registered_at,
      `The configuration server ${row.host_name}`,
      nowMs,
    ),
    ...expiry(row.certificate_expires_at, `of the configuration server ${row.host_name}`, nowMs),
    ...clockSkew(row),
  ];
}

/** Its clock against the vault's, when it reported last. */
function clockSkew(row: FabricRow): Problem[] {
  const report = reportOf(row);
  if (report === undefined || row.last_heartbeat_at === null) return [];
  const skewMs = report.unixMs - row.last_heartbeat_at;
  if (Math.abs(skewMs) <= CLOCK_SKEW_MS_MAX) return [];
  const direction = skewMs > 0 ? "ahead of" : "behind";
  return [
    {
      level: "Warning",
      code: "CLOCK_SKEWED",
      message: `The clock of the configuration server ${row.host_name} is ${formatDuration(Math.abs(skewMs))} ${direction} the vault's.`,
      hint: "Synchronise both clocks (NTP). Ages of points and heartbeats are told by the vault's clock all the same; certificates are checked by either's own.",
    },
  ];
}

function gatewayErrors(row: GatewayRow, nowMs: number): readonly Problem[] {
  const facts = factsOf(row);
  return [
    ...facts.health.map(judged),
    ...silence(row.last_seen_at, `The ${row.role} ${facts.hostName}`, nowMs),
    ...expiry(facts.certificateExpiresUnixMs, `of the ${row.role} ${facts.hostName}`, nowMs),
  ];
}

function judged(error: HealthError): Problem {
  return { ...error, level: serverLevel(error.code) };
}

function silence(lastMs: number, who: string, nowMs: number): Problem[] {
  if (!isSilent(lastMs, nowMs)) return [];
  return [
    {
      level: "Error",
      code: SERVER_HEALTH.HEARTBEAT_MISSING.code,
      message: `${who} has not been heard of since ${isoTime(lastMs)}.`,
      hint: SERVER_HEALTH.HEARTBEAT_MISSING.hint,
    },
  ];
}

/** What is wrong with a certificate that ought to have been renewed. */
export function expiry(
  expiresMs: number,
  whose: string,
  nowMs: number,
  hint: string = SERVER_HEALTH.CERTIFICATE_EXPIRING.hint,
): readonly Problem[] {
  if (daysLeft(expiresMs, nowMs) > CERTIFICATE_WARNING_DAYS) return [];
  return [
    {
      level: expiresMs <= nowMs ? "Error" : "Warning",
      code: SERVER_HEALTH.CERTIFICATE_EXPIRING.code,
      message: `The certificate ${whose} is valid until ${isoTime(expiresMs)}.`,
      hint,
    },
  ];
}

export function worst(errors: readonly Problem[]): Health {
  if (errors.some(({ level }) => level === "Error")) return "Critical";
  return errors.length > 0 ? "Warning" : "Normal";
}

/** A health error in ARM's form. */
export function healthErrorBody(error: Problem, nowMs: number): JsonObject {
  return {
    innerHealthErrors: [],
    errorSource: "OpenSiteRecovery",
    errorType: "Health",
    errorLevel: error.level,
    errorCategory: "FabricInfrastructure",
    errorCode: error.code,
    summaryMessage: error.message,
    errorMessage: error.message,
    possibleCauses: "",
    recommendedAction: error.hint,
    creationTimeUtc: isoTime(nowMs),
    recoveryProviderErrorMessage: null,
    entityId: error.diskId ?? null,
    errorId: error.code,
    customerResolvability: "Allowed",
  };
}

function factsOf(row: GatewayRow): GatewayFacts {
  // Checked against its shape when it arrived.
  return row.facts as unknown as GatewayFacts;
}

export function isSilent(lastMs: number | null, nowMs: number): boolean {
  return lastMs === null || nowMs - lastMs > HEARTBEAT_MISSING_MS;
}

function daysLeft(expiresMs: number, nowMs: number): number {
  return Math.floor((expiresMs - nowMs) / DAY_MS);
}
