import type { KernelCounters, SectorCounts } from "./change-tracker.ts";
import { type SystemRoots, readText, systemRoots } from "./system-roots.ts";

/** Fields of `/sys/class/block/<disk>/stat`, from 0. */
const WRITTEN_FIELD = 6;
const DISCARDED_FIELD = 13;

/**
 * What the kernel counts of a disk, from sysfs. The kernel counts a request just after it traces its completion. A disk
 * whose counting is switched off (`queue/iostats`), or that is gone, has no counts.
 */
export function sysfsCounters({ sysfs }: Pick<SystemRoots, "sysfs"> = systemRoots): KernelCounters {
  return {
    counterOf: ({ name }) => {
      if (readText(sysfs, "class/block", name, "queue/iostats") === "0") return () => undefined;
      return () => parseStat(readText(sysfs, "class/block", name, "stat"));
    },
  };
}

function parseStat(text: string | undefined): SectorCounts | undefined {
  const fields = text?.split(/\s+/).map(Number) ?? [];
  const written = fields[WRITTEN_FIELD];
  const discarded = fields[DISCARDED_FIELD];
  if (written === undefined || discarded === undefined) return undefined;
  return { written, discarded };
}
