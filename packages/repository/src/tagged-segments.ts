import type { Tag } from "@osr/contracts/tag";

import { checkFollows, listSegments } from "./disk-log.ts";
import { readLogEnd } from "./log-end.ts";
import { readLineage } from "./log-lineage.ts";
import { type LogSegment, openSegment } from "./log-segment.ts";
import type { LogId } from "./object-names.ts";
import type { ObjectStore } from "./object-store.ts";
import type { TagPosition } from "./recovery-point.ts";

/** A tag and where it is in the log of a disk. */
export type TaggedSegment = { readonly tag: Tag; readonly position: TagPosition };

export type TagSearch = {
  readonly indexRoot: Buffer;
  /** Segments that are opened at most; without it all there are. */
  readonly segmentsMax?: number;
  readonly signal?: AbortSignal | undefined;
};

/** Segments of a log that end with a tag, the newest first, over all timelines that it consists of. For completing points. */
export async function* taggedSegments(
  store: ObjectStore,
  log: LogId,
  { indexRoot, segmentsMax = Infinity, signal }: TagSearch,
): AsyncGenerator<TaggedSegment> {
  let opened = 0;
  const { tip } = await readLogEnd(store, log, indexRoot, signal);
  const lineage = await readLineage(store, log, indexRoot, signal);
  let next: LogSegment | undefined;
  for (const { log: stretch, seqEnd } of lineage.toReversed()) {
    const { refs } = await listSegments(store, stretch, signal);
    for (const ref of refs.slice(0, seqEnd ?? tip?.seq ?? 0).toReversed()) {
      if (opened++ >= segmentsMax) return;
      const segment = await openSegment(store, stretch, ref, { indexRoot, signal });
      if (next !== undefined) checkFollows(next, segment);
      next = segment;
      const { tag } = segment.directory.meta;
      const { diskId, timeline } = stretch;
      const { seq, head } = segment;
      if (tag !== undefined) yield { tag, position: { diskId, timeline, seq, head } };
    }
  }
}
