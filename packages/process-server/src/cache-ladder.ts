import { GIB } from "@osr/base/units";

/** Default limit of the cache, as Azure Site Recovery sizes its cache disk. */
export const CACHE_BYTES_DEFAULT = 600 * GIB;

/** Shares of free cache below which a step of the ladder is reached. */
export const CACHE_WARNING_SHARE = 0.3;
export const CACHE_CRITICAL_SHARE = 0.25;
export const CACHE_THROTTLE_SHARE = 0.2;

/** Delay that agents are asked for just above the throttle. */
export const THROTTLE_DELAY_MS_MAX = 2000;
/** When an agent that got CACHE_FULL may ask again. */
export const CACHE_FULL_RETRY_MS = 5000;

export type CacheLevel = "normal" | "warning" | "critical" | "throttled";

/** Room on the file system of the spool. */
export type FileSystemSpace = { readonly sizeBytes: number; readonly availableBytes: number };

/** Free share of the cache, 0 to 1. The cache ends at its limit or where the file system is full, whatever is first. */
export function freeShareOf(
  space: FileSystemSpace,
  cache: { readonly limitBytes: number; readonly usedBytes: number },
): number {
  const sizeBytes = Math.min(cache.limitBytes, space.sizeBytes);
  const freeBytes = Math.min(sizeBytes - cache.usedBytes, space.availableBytes);
  return sizeBytes <= 0 ? 0 : Math.max(0, freeBytes / sizeBytes);
}

export function cacheLevelOf(freeShare: number): CacheLevel {
  if (freeShare < CACHE_THROTTLE_SHARE) return "throttled";
  if (freeShare < CACHE_CRITICAL_SHARE) return "critical";
  return freeShare < CACHE_WARNING_SHARE ? "warning" : "normal";
}

/** How long agents shall wait before their next batch: 0 down to the critical step, then rising to the throttle. */
export function delayMsOf(freeShare: number): number {
  const depth = (CACHE_CRITICAL_SHARE - freeShare) / (CACHE_CRITICAL_SHARE - CACHE_THROTTLE_SHARE);
  return Math.round(THROTTLE_DELAY_MS_MAX * Math.min(1, Math.max(0, depth)));
}
