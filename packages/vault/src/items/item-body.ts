import type { JsonObject } from "@osr/base/json-value";
import { MIB } from "@osr/base/units";
import type { FabricMachine } from "@osr/contracts/fabric-protocol";
import type { DiskReplicationFacts } from "@osr/contracts/replication-facts";

import { diskIdOf } from "@osr/repository/disk-id";
import { isoTime } from "@osr/base/platform/iso-time";
import type { VaultRow } from "../arm/resource-routes.ts";
import { armIdOf, resourceBody } from "../resources/resource-body.ts";
import { type FailoverCheck, failoverErrorBodies, failoverHealthOf } from "./failover-check.ts";
import { healthErrorBody, healthOf, itemSymptoms, rpoSeconds } from "./item-health.ts";
import { type ItemRow, replicaOf, stateOf, targetOf } from "./item-row.ts";
import { allowedOperations, protectionState, testState } from "./item-state.ts";

const RECOVERY_SITE = "Microsoft Azure";
const NO_JOB_TIME = "1753-01-01T01:01:01Z";

/** What an item is shown with, beside its own row. */
export type ItemReading = {
  readonly row: ItemRow;
  readonly fabric: { readonly id: string; readonly name: string };
  readonly policy: {
    readonly name: string;
    readonly rpoThresholdMinutes: number;
    readonly isMultiVm: boolean;
  };
  readonly machine: FabricMachine | undefined;
  /** Of what time the newest point is known: of the last report of the machine, or the last look into the storage account. */
  readonly pointsKnownUnixMs: number | undefined;
  readonly failoverCheck: FailoverCheck | undefined;
  /** Kind of the job under way, and when it began; undefined where none runs. */
  readonly runningJob:
    | { readonly id: string; readonly kind: string; readonly startedAt: number }
    | undefined;
};

export function itemPath(fabricName: string, fabricId: string, itemName: string): string[] {
  return [
    ["replicationFabrics", fabricName],
    ["replicationProtectionContainers", `cloud_${fabricId}`],
    ["replicationProtectedItems", itemName],
  ].flat();
}

/** A protected item in ARM's words: arm-api.md, 2.9. */
export function itemBody(vault: VaultRow, reading: ItemReading, nowUnixMs: number): JsonObject {
  const { row, fabric, policy, machine, runningJob } = reading;
  const state = stateOf(row);
  const isReplicating = row.phase === "protected";
  const failoverCheck = isReplicating ? reading.failoverCheck : undefined;
  const newestPointUnixMs = row.newest_point_at ?? undefined;
  const symptoms = itemSymptoms({
    machine,
    isReplicating,
    newestPointUnixMs,
    pointsKnownUnixMs: reading.pointsKnownUnixMs,
    rpoThresholdMinutes: policy.rpoThresholdMinutes,
    nowUnixMs,
  });
  const protection = protectionState(state, stageOf(machine));
  const test = testState(row.test);
  const container = armIdOf(vault, itemPath(fabric.name, fabric.id, "").slice(0, 4));
  const path = itemPath(fabric.name, fabric.id, row.name);
  const replica = replicaOf(row.replica);
  return resourceBody(vault, path, {
    friendlyName: row.friendly_name,
    protectedItemType: "",
    protectableItemId: `${container}/replicationProtectableItems/${row.machine_id}`,
    recoveryServicesProviderId: armIdOf(vault, [
      "replicationFabrics",
      fabric.name,
      "replicationRecoveryServicesProviders",
      fabric.id,
    ]),
    primaryFabricFriendlyName: fabric.name,
    primaryFabricProvider: "VMware",
    recoveryFabricFriendlyName: RECOVERY_SITE,
    recoveryFabricId: RECOVERY_SITE,
    primaryProtectionContainerFriendlyName: fabric.name,
    recoveryProtectionContainerFriendlyName: RECOVERY_SITE,
    recoveryContainerId: RECOVERY_SITE,
    protectionState: protection.word,
    protectionStateDescription: protection.description,
    activeLocation: row.replica === null ? "Primary" : "Recovery",
    testFailoverState: test.word,
    testFailoverStateDescription:
      row.test === "none" && row.last_test_failover_at === null
        ? "Test recommended"
        : test.description,
    allowedOperations: [...allowedOperations(state)].filter((operation) => operation !== "Update"),
    replicationHealth: healthOf(symptoms, isReplicating),
    failoverHealth: failoverHealthOf(failoverCheck),
    healthErrors: [
      ...symptoms.map((symptom) => healthErrorBody(symptom, nowUnixMs, row.machine_id)),
      ...failoverErrorBodies(failoverCheck, row.machine_id),
    ],
    policyId: armIdOf(vault, ["replicationPolicies", policy.name]),
    policyFriendlyName: policy.name,
    currentScenario: {
      scenarioName: runningJob?.kind ?? "None",
      jobId: armIdOf(vault, ["replicationJobs", runningJob?.id ?? "None"]),
      startTime: runningJob === undefined ? NO_JOB_TIME : isoTime(runningJob.startedAt),
    },
    failoverRecoveryPointId:
      replica === undefined ? null : armIdOf(vault, [...path, "recoveryPoints", replica.cutId]),
    lastSuccessfulFailoverTime: timeOrNull(row.last_failover_at),
    lastSuccessfulTestFailoverTime: timeOrNull(row.last_test_failover_at),
    eventCorrelationId: row.id,
    providerSpecificDetails: detailsBody(reading, failoverCheck, nowUnixMs),
  });
}

function detailsBody(
  { row, policy, machine, pointsKnownUnixMs }: ItemReading,
  failoverCheck: FailoverCheck | undefined,
  nowUnixMs: number,
): JsonObject {
  const { facts, registration } = machine ?? {};
  const target = targetOf(row);
  const disks = facts?.disks ?? [];
  const newest = row.newest_point_at;
  return {
    ...target.sent,
    instanceType: "InMageAzureV2",
    infrastructureVmId: row.machine_id,
    vmId: row.machine_id,
    replicaId: replicaOf(row.replica)?.replicaId ?? null,
    targetVmId: replicaOf(row.replica)?.replicaId ?? null,
    protectionStage: facts?.state ?? "idle",
    vmProtectionState: facts?.state ?? "idle",
    vmProtectionStateDescription: facts?.state ?? "idle",
    resyncProgressPercentage: progressPercent(disks),
    rpoInSeconds: newest === null ? null : rpoSeconds(newest, nowUnixMs),
    lastRpoCalculatedTime: timeOrNull(pointsKnownUnixMs ?? null),
    lastRecoveryPointReceived: timeOrNull(newest),
    lastUpdateReceivedTime: timeOrNull(machine?.lastSeenUnixMs ?? null),
    lastHeartbeat: timeOrNull(machine?.lastSeenUnixMs ?? null),
    ipAddress: machine?.address ?? null,
    agentVersion: registration?.agentVersion ?? null,
    isAgentUpdateRequired: "NotRequired",
    isRebootAfterUpdateRequired: "NotRequired",
    processServerId: facts?.processServerId ?? row.process_server_id,
    masterTargetId: null,
    multiVmGroupId: row.group_name ?? row.machine_id,
    multiVmGroupName: row.group_name ?? row.machine_id,
    multiVmSyncStatus: policy.isMultiVm ? "Enabled" : "Disabled",
    protectedDisks: disks.map((disk) => diskBody(row, disk, newest, nowUnixMs)),
    diskResized: "NotResized",
    sourceVmCpuCount: registration?.machine.cpuCount ?? null,
    sourceVmRamSizeInMB:
      registration === undefined ? null : Math.round(registration.machine.memoryBytes / MIB),
    osType: machine?.operatingSystem === "windows" ? "Windows" : "Linux",
    osVersion: registration?.machine.operatingSystem ?? null,
    firmwareType: registration?.machine.firmware === "uefi" ? "EFI" : "BIOS",
    osDiskId: osDiskId(row, machine),
    azureVMDiskDetails: [],
    vmNics: [],
    recoveryAzureVMName: target.vmName ?? row.friendly_name,
    recoveryAzureVMSize: target.vmSize ?? null,
    selectedRecoveryAzureNetworkId: target.networkId ?? null,
    selectedTfoAzureNetworkId: target.testNetworkId ?? null,
    useManagedDisks: "true",
    validationErrors: [...failoverErrorBodies(failoverCheck, row.machine_id)],
    openSiteRecovery: {
      replica: row.replica,
      testReplica: row.test_replica,
      failoverCheckedTime: timeOrNull(failoverCheck?.checkedUnixMs ?? null),
    },
    totalDataTransferred: disks.reduce((bytes, disk) => bytes + disk.sentBytes, 0),
  };
}

function diskBody(
  row: ItemRow,
  disk: DiskReplicationFacts,
  newest: number | null,
  nowUnixMs: number,
): JsonObject {
  const isCopying = disk.stage === "initial" || disk.stage === "resync";
  return {
    diskId: diskIdOf(row.machine_id, disk.identity),
    diskName: disk.name,
    diskCapacityInBytes: disk.sizeBytes,
    fileSystemCapacityInBytes: disk.sizeBytes,
    protectionStage: disk.stage,
    healthErrorCode: disk.stage === "critical" ? "DISK_CRITICAL" : null,
    rpoInSeconds: newest === null ? null : rpoSeconds(newest, nowUnixMs),
    resyncRequired: disk.stage === "resync" ? "Required" : "NotRequired",
    resyncProgressPercentage: Math.floor(disk.progressPermille / 10),
    progressHealth: isCopying ? "InProgress" : "None",
    progressStatus: disk.resyncReason ?? disk.stage,
    resyncProcessedBytes: Math.floor((disk.sizeBytes * disk.progressPermille) / 1000),
    resyncTotalTransferredBytes: disk.sentBytes,
    // What waits at each hop: at the agent, in the process server's cache, and nothing after it.
    sourceDataInMegaBytes: megabytes(disk.dirtyBytes),
    psDataInMegaBytes: megabytes(disk.pendingUploadBytes ?? 0),
    targetDataInMegaBytes: 0,
    diskResized: "NotResized",
    openSiteRecovery: {
      identity: disk.identity,
      readBytes: disk.readBytes,
      sentBytes: disk.sentBytes,
      uploadedBytes: disk.uploadedBytes ?? null,
      resyncDifferentBytes: disk.resyncDifferentBytes ?? null,
      secondsLeft: disk.secondsLeft ?? null,
    },
  };
}

function stageOf(machine: FabricMachine | undefined): "initial" | "resync" | "delta" | "unknown" {
  switch (machine?.facts?.state) {
    case "initial":
      return "initial";
    case "resync":
      return "resync";
    case "protected":
    case "critical":
      return "delta";
    default:
      return "unknown";
  }
}

/** Of the disk that is furthest behind. */
function progressPercent(disks: readonly DiskReplicationFacts[]): number {
  const copying = disks.filter(({ stage }) => stage === "initial" || stage === "resync");
  const least = Math.min(1000, ...copying.map(({ progressPermille }) => progressPermille));
  return copying.length === 0 ? 0 : Math.floor(least / 10);
}

function osDiskId(row: ItemRow, machine: FabricMachine | undefined): string | null {
  const boot = machine?.registration?.disks.find(({ isBoot }) => isBoot);
  return boot === undefined ? null : diskIdOf(row.machine_id, boot.identity);
}

function megabytes(bytes: number): number {
  return Math.round((bytes / MIB) * 100) / 100;
}

function timeOrNull(unixMs: number | null): string | null {
  return unixMs === null ? null : isoTime(unixMs);
}
