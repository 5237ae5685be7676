import type { HealthError } from "@osr/contracts/agent-protocol";

/** Codes of agents that are worth a look, while replication goes on all the same. */
const WARNINGS: ReadonlySet<string> = new Set([
  "CERTIFICATE_EXPIRES",
  "CERTIFICATE_EXPIRING",
  "CLOCK_SKEWED",
  "FREEZE_LONG",
  "POINT_MISSED",
]);
/** What process servers say of themselves that is more than a warning, beside codes that say so. */
const CRITICAL: ReadonlySet<string> = new Set([
  "CACHE_THROTTLED",
  "CERTIFICATE_EXPIRED",
  "GATEWAY_SILENT",
]);

/** Of the moment: the configuration server says CACHE_CRITICAL once it has lasted. */
const MOMENTARY: ReadonlySet<string> = new Set(["CACHE_FREE_CRITICAL"]);

export type HealthLevel = "Warning" | "Error";

/** Of what a machine's agent, or its process server about it, reports: what is not known to be harmless is an error. */
export function machineLevel(code: string): HealthLevel {
  return WARNINGS.has(code) || code.endsWith("_WARNING") ? "Warning" : "Error";
}

/** Of what is reported of a process server, a master target or a configuration server: it does its work unless it says otherwise. */
export function serverLevel(code: string): HealthLevel {
  const isCritical = CRITICAL.has(code) || code.endsWith("_CRITICAL");
  return isCritical && !MOMENTARY.has(code) ? "Error" : "Warning";
}

export type SignalStatus = "Green" | "Yellow" | "Red";

/**
 * A signal of a process server, in ARM's colours. It is coloured once it has lasted (15 minutes; the drain time is a mean), as
 * the configuration server and the process server judge, and not by the sample of the moment.
 */
export function signalStatus(
  health: readonly Pick<HealthError, "code">[],
  ...signals: readonly ("CPU" | "MEMORY" | "CACHE" | "DRAIN_TIME")[]
): SignalStatus {
  const has = (suffix: string): boolean =>
    signals.some((signal) => health.some(({ code }) => code === `${signal}_${suffix}`));
  if (has("CRITICAL")) return "Red";
  return has("WARNING") ? "Yellow" : "Green";
}
