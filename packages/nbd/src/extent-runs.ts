import type { Extent } from "@osr/base/block-source";

/** Adds `extents` to `runs`, joining neighbours of one kind. */
export function appendExtents(runs: Extent[], extents: readonly Extent[]): void {
  for (const extent of extents) {
    const last = runs.at(-1);
    if (
      last !== undefined &&
      last.zero === extent.zero &&
      last.offset + last.bytes === extent.offset
    )
      runs[runs.length - 1] = { ...last, bytes: last.bytes + extent.bytes };
    else runs.push(extent);
  }
}

/** `extents` with neighbours joined, where zeros shorter than `zeroBytesMin` count as data. */
export function coarseRuns(extents: readonly Extent[], zeroBytesMin: number): readonly Extent[] {
  const joined: Extent[] = [];
  appendExtents(joined, extents);
  if (joined.every((run) => !run.zero || run.bytes >= zeroBytesMin)) return joined;
  const coarse: Extent[] = [];
  appendExtents(
    coarse,
    joined.map((run) => (run.bytes < zeroBytesMin ? { ...run, zero: false } : run)),
  );
  return coarse;
}
