import { OsrError } from "@osr/base/errors";

import { readDiskDescriptor } from "./disk-descriptor.ts";
import { type LogId, TIMELINE_ROOT } from "./object-names.ts";
import type { ObjectStore } from "./object-store.ts";
import { REPOSITORY_ERRORS } from "./repository-errors.ts";

/** Timelines from the root to a log, both counted. */
export const LINEAGE_MAX = 16;

/** What a log holds of one timeline: segments 1 to `seqEnd`; without it all there are. */
export type LogStretch = { readonly log: LogId; readonly seqEnd: number | undefined };

/**
 * The timelines that a log consists of, from the root on; the last one is the log itself. Reads one small object for each
 * but the root. Throws LOG_BROKEN where they are too many or not in order, and what reading a descriptor throws.
 */
export async function readLineage(
  store: ObjectStore,
  log: LogId,
  indexRoot: Buffer,
  signal?: AbortSignal,
): Promise<readonly LogStretch[]> {
  const stretches: LogStretch[] = [{ log, seqEnd: undefined }];
  for (let child = log; child.timeline !== TIMELINE_ROOT;) {
    const { parent } = await readDiskDescriptor(store, child, indexRoot, signal);
    if (parent === undefined) break;
    // Parents are older, so numbers fall: whatever a descriptor says, this ends.
    if (parent.timeline >= child.timeline || stretches.length >= LINEAGE_MAX)
      throw new OsrError(
        REPOSITORY_ERRORS.LOG_BROKEN,
        `timeline ${log.timeline} of disk ${log.diskId} has no sound line of parents`,
        { details: { timeline: child.timeline } },
      );
    child = { ...log, timeline: parent.timeline };
    stretches.unshift({ log: child, seqEnd: parent.seq });
  }
  return stretches;
}
