import { type ErrorInfo, OsrError, defineErrors, messageOf } from "@osr/base/errors";
import { MINUTE_MS, formatBytes, formatDuration } from "@osr/base/units";
import type { HealthError } from "@osr/contracts/agent-protocol";

import type { CacheLevel } from "./cache-ladder.ts";
import type { DiskStream } from "./disk-stream.ts";
import type { LoadShares } from "./load-watch.ts";

/** Uploads that wait need this long at the measured uplink: thresholds of Azure Site Recovery. */
export const DRAIN_MS_WARNING = 30 * MINUTE_MS;
export const DRAIN_MS_CRITICAL = 45 * MINUTE_MS;
/** A machine that was not heard of for this long. */
export const SILENT_MS_MAX = 15 * MINUTE_MS;

/** Mean of a quarter of an hour above which CPU or memory of the machine count as short. */
export const LOAD_SHARE_WARNING = 0.8;
export const LOAD_SHARE_CRITICAL = 0.95;

/** What can be wrong with a process server; what is wrong with a disk has the code of its error. */
export const PROCESS_SERVER_HEALTH = defineErrors({
  CACHE_FREE_WARNING: {
    retryable: true,
    hint: "Check the link to the storage account, or enlarge the cache.",
  },
  CACHE_FREE_CRITICAL: {
    retryable: true,
    hint: "Below 20 % replication is throttled. Check the link to the storage account, or enlarge the cache.",
  },
  CACHE_THROTTLED: {
    retryable: true,
    hint: "Replication waits for room in the cache. Check the link to the storage account, or enlarge the cache.",
  },
  DRAIN_TIME_WARNING: { retryable: true, hint: "The uplink is slower than the machines change." },
  DRAIN_TIME_CRITICAL: { retryable: true, hint: "The uplink is slower than the machines change." },
  CPU_WARNING: {
    retryable: true,
    hint: "Move machines to another process server, or give it CPUs.",
  },
  CPU_CRITICAL: {
    retryable: true,
    hint: "Move machines to another process server, or give it CPUs.",
  },
  MEMORY_WARNING: {
    retryable: true,
    hint: "Move machines to another process server, or give it memory.",
  },
  MEMORY_CRITICAL: {
    retryable: true,
    hint: "Move machines to another process server, or give it memory.",
  },
  MACHINE_SILENT: {
    retryable: true,
    hint: "Check that the machine runs and that its mobility service reaches this process server.",
  },
  INTERNAL: { retryable: false, hint: "See the log of the process server." },
});

const CACHE_HEALTH: Readonly<Record<CacheLevel, ErrorInfo | undefined>> = {
  normal: undefined,
  warning: PROCESS_SERVER_HEALTH.CACHE_FREE_WARNING,
  critical: PROCESS_SERVER_HEALTH.CACHE_FREE_CRITICAL,
  throttled: PROCESS_SERVER_HEALTH.CACHE_THROTTLED,
};

export type HealthFacts = {
  readonly level: CacheLevel;
  readonly freeShare: number;
  readonly streams: readonly DiskStream[];
  /** Of points that were not made although the logs prove them. */
  readonly refusedPoints: readonly OsrError[];
  readonly uploadBytesPerSecond: number | undefined;
  /** Means of the last quarter of an hour, 0 to 1; absent where they are not measured. */
  readonly load: LoadShares | undefined;
  readonly silentMachines: readonly { readonly name: string; readonly silentMs: number }[];
};

/** Everything that is wrong at the moment, with stable codes. */
export function healthOf(facts: HealthFacts): readonly HealthError[] {
  return [
    ...placeHealth(facts),
    ...facts.streams.flatMap(streamHealth),
    ...facts.refusedPoints.map((error) => entry(error, error.message)),
    ...facts.silentMachines
      .filter(({ silentMs }) => silentMs > SILENT_MS_MAX)
      .map(({ name, silentMs }) =>
        entry(
          PROCESS_SERVER_HEALTH.MACHINE_SILENT,
          `${name} was not heard of for ${formatDuration(silentMs)}`,
        ),
      ),
  ];
}

/** What is wrong with the process server as a whole, so for every machine that uses it. */
export function placeHealth(
  facts: Omit<HealthFacts, "silentMachines" | "refusedPoints">,
): readonly HealthError[] {
  return [...cacheHealth(facts), ...drainHealth(facts), ...loadHealth(facts)];
}

function loadHealth({ load }: Pick<HealthFacts, "load">): readonly HealthError[] {
  if (load === undefined) return [];
  const { CPU_WARNING, CPU_CRITICAL, MEMORY_WARNING, MEMORY_CRITICAL } = PROCESS_SERVER_HEALTH;
  return [
    ...aboveThreshold(load.cpu, "CPU", CPU_WARNING, CPU_CRITICAL),
    ...aboveThreshold(load.memory, "memory", MEMORY_WARNING, MEMORY_CRITICAL),
  ];
}

function aboveThreshold(
  share: number,
  what: string,
  warning: ErrorInfo,
  critical: ErrorInfo,
): readonly HealthError[] {
  if (share <= LOAD_SHARE_WARNING) return [];
  const message = `${(share * 100).toFixed(0)} % of ${what} in use over the last minutes`;
  return [entry(share > LOAD_SHARE_CRITICAL ? critical : warning, message)];
}

function cacheHealth({
  level,
  freeShare,
}: Pick<HealthFacts, "level" | "freeShare">): readonly HealthError[] {
  const info = CACHE_HEALTH[level];
  return info === undefined
    ? []
    : [entry(info, `${(freeShare * 100).toFixed(1)} % of the cache are free`)];
}

function drainHealth({
  streams,
  uploadBytesPerSecond,
}: Pick<HealthFacts, "streams" | "uploadBytesPerSecond">): readonly HealthError[] {
  if (uploadBytesPerSecond === undefined) return [];
  const bytes = streams.reduce((sum, { status }) => sum + status.pendingUploadBytes, 0);
  const drainMs = (bytes / uploadBytesPerSecond) * 1000;
  if (drainMs <= DRAIN_MS_WARNING) return [];
  const info =
    drainMs > DRAIN_MS_CRITICAL
      ? PROCESS_SERVER_HEALTH.DRAIN_TIME_CRITICAL
      : PROCESS_SERVER_HEALTH.DRAIN_TIME_WARNING;
  const message = `${formatBytes(bytes)} wait for the storage account, about ${formatDuration(drainMs)}`;
  return [entry(info, message)];
}

/** What is wrong with one disk. */
export function streamHealth(stream: DiskStream): readonly HealthError[] {
  const { diskId } = stream.keys.log;
  return [stream.trouble, stream.tampering]
    .filter((error) => error !== undefined)
    .map((error) => {
      const { code, hint } = error instanceof OsrError ? error : PROCESS_SERVER_HEALTH.INTERNAL;
      return { code, message: messageOf(error), hint, diskId };
    });
}

function entry({ code, hint }: ErrorInfo, message: string): HealthError {
  return { code, message, hint };
}
