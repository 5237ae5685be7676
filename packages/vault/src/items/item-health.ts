import { defineErrors } from "@osr/base/errors";
import type { JsonObject } from "@osr/base/json-value";
import { MINUTE_MS, SECOND_MS } from "@osr/base/units";
import type { FabricMachine } from "@osr/contracts/fabric-protocol";

import { isoTime } from "@osr/base/platform/iso-time";

import { type HealthLevel, machineLevel } from "../resources/health-level.ts";

/** An agent that was not heard of for so long is away (facts, section 6: heartbeat missing, 15 min). */
const HEARTBEAT_MS_MAX = 15 * MINUTE_MS;

/** Agents report every 15 s to the configuration server, and it as often to the vault; twice that is nothing to talk about. */
const REPORTED_MS_MAX = MINUTE_MS;

const ITEM_HEALTH = defineErrors({
  MACHINE_SILENT: {
    retryable: true,
    hint: "Start the mobility service, and check that port 443 of the configuration server is reached.",
  },
  RPO_EXCEEDED: {
    retryable: true,
    hint: "Look at the backlog of each hop of the item's disks, and at its other errors.",
  },
});

export type ItemHealth = "None" | "Normal" | "Warning" | "Critical";

export type ItemSymptom = {
  readonly code: string;
  readonly level: HealthLevel;
  readonly message: string;
  readonly causes: string;
  readonly remedy: string;
  /** ARM's errorCategory; `Replication` where absent. */
  readonly category?: "TestFailover";
};

/** What is wrong with an item now, worst first. A pure function of what was reported. */
export function itemSymptoms(facts: {
  readonly machine: FabricMachine | undefined;
  readonly isReplicating: boolean;
  readonly newestPointUnixMs: number | undefined;
  readonly pointsKnownUnixMs: number | undefined;
  readonly rpoThresholdMinutes: number;
  readonly nowUnixMs: number;
}): readonly ItemSymptom[] {
  const { machine, isReplicating, nowUnixMs } = facts;
  if (!isReplicating) return [];
  const symptoms: ItemSymptom[] = [];
  const lastSeen = machine?.lastSeenUnixMs;
  if (machine === undefined || lastSeen === undefined || nowUnixMs - lastSeen > HEARTBEAT_MS_MAX)
    symptoms.push({
      code: ITEM_HEALTH.MACHINE_SILENT.code,
      level: "Error",
      message: "The mobility service of the machine has not been heard of for 15 minutes.",
      causes:
        "The machine or its mobility service is stopped, or it does not reach the configuration server.",
      remedy: ITEM_HEALTH.MACHINE_SILENT.hint,
    });
  for (const { code, message, hint } of machine?.facts?.health ?? [])
    symptoms.push({
      code,
      level: machineLevel(code),
      message,
      causes: message,
      remedy: hint,
    });
  const { newestPointUnixMs, rpoThresholdMinutes } = facts;
  const ageMs = newestPointUnixMs === undefined ? 0 : nowUnixMs - newestPointUnixMs;
  if (ageMs > rpoThresholdMinutes * MINUTE_MS)
    symptoms.push({
      code: ITEM_HEALTH.RPO_EXCEEDED.code,
      level: "Warning",
      message: `The newest recovery point is ${Math.round(ageMs / MINUTE_MS)} min old, the policy's threshold is ${rpoThresholdMinutes} min.${asOf(facts)}`,
      causes: "The machine changes faster than its data is uploaded, or no point could be made.",
      remedy: ITEM_HEALTH.RPO_EXCEEDED.hint,
    });
  return symptoms.toSorted((a, b) => rank(a) - rank(b));
}

/** What is shown of points may be older than what there is; it is said where that is more than the time between reports. */
export function asOf(facts: {
  readonly pointsKnownUnixMs: number | undefined;
  readonly nowUnixMs: number;
}): string {
  const { pointsKnownUnixMs: known, nowUnixMs } = facts;
  if (known === undefined || nowUnixMs - known <= REPORTED_MS_MAX) return "";
  return ` That is as of ${isoTime(known)}: nothing was heard of its points since, and there may be newer ones.`;
}

/** Later of the last report and the last look into the storage account. */
export function pointsKnownUnixMs(
  reportedUnixMs: number | undefined,
  listedUnixMs: number | null,
): number | undefined {
  const known = Math.max(reportedUnixMs ?? 0, listedUnixMs ?? 0);
  return known === 0 ? undefined : known;
}

function rank({ level }: ItemSymptom): number {
  return level === "Error" ? 0 : 1;
}

export function healthOf(symptoms: readonly ItemSymptom[], isReplicating: boolean): ItemHealth {
  if (!isReplicating) return "None";
  if (symptoms.some(({ level }) => level === "Error")) return "Critical";
  return symptoms.length > 0 ? "Warning" : "Normal";
}

/** ARM's HealthError. */
export function healthErrorBody(
  symptom: ItemSymptom,
  nowUnixMs: number,
  entityId: string,
): JsonObject {
  return {
    errorSource: "OpenSiteRecovery",
    errorType: "Replication",
    errorLevel: symptom.level,
    errorCategory: symptom.category ?? "Replication",
    errorCode: symptom.code,
    summaryMessage: symptom.message,
    errorMessage: symptom.message,
    possibleCauses: symptom.causes,
    recommendedAction: symptom.remedy,
    creationTimeUtc: isoTime(nowUnixMs),
    entityId,
    innerHealthErrors: [],
  };
}

/** Seconds since the newest recovery point that the storage account holds. */
export function rpoSeconds(newestPointUnixMs: number, nowUnixMs: number): number {
  return Math.max(0, Math.round((nowUnixMs - newestPointUnixMs) / SECOND_MS));
}
