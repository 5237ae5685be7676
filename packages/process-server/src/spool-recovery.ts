import { mkdir, readdir } from "node:fs/promises";

import type { Log } from "@osr/base/log";
import type { SegmentMeta } from "@osr/repository/segment-meta";

import { type ClosedSegment, removeSegmentFiles } from "./closed-segment.ts";
import { noteLastRecord } from "./last-record.ts";
import { metaCarriedOn } from "./segment-entry.ts";
import type { SegmentKeys } from "./segment-plan.ts";
import { segmentPlanOf } from "./segment-plan.ts";
import { readClosedSegment, readSegmentHeader, recoverSegment } from "./segment-recovery.ts";
import { type SegmentName, parseSegmentFile, segmentPaths } from "./spool-layout.ts";

/** Where the log ends in the storage account. */
export type LogEnd = {
  readonly seq: number;
  readonly generation: number;
  readonly meta: SegmentMeta;
};

/**
 * Reads what a process server left in the folder of a disk and closes the segment that was open. Returns the segments
 * that continue the log, in order; everything else in the folder is removed: what is in the log already, what another
 * owner's claim made void, and what holds nothing whole. `end` is undefined where there is no log. The last record of the
 * log's end is noted before its files go.
 */
export async function recoverSpool(
  folder: string,
  keys: SegmentKeys,
  end: LogEnd | undefined,
  log: Log,
): Promise<readonly ClosedSegment[]> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const names = await segmentNames(folder);
  for (const name of names)
    if (name.seq === end?.seq) await noteTip(folder, name, { keys, end, log });
  const kept: ClosedSegment[] = [];
  let seqNext = (end?.seq ?? 0) + 1;
  let meta = end?.meta;
  for (const [index, name] of names.entries()) {
    const segment =
      end === undefined || meta === undefined || name.seq !== seqNext
        ? undefined
        : await readSegment(folder, name, {
            keys,
            generation: end.generation,
            meta,
            isLast: index === names.length - 1,
          });
    if (segment !== undefined) {
      kept.push(segment);
      meta = segment.meta;
      seqNext += 1;
      continue;
    }
    if (name.seq > (end?.seq ?? 0))
      log.warn("a segment in the spool does not continue the log and is dropped", name);
    await removeSegmentFiles(segmentPaths(folder, name));
  }
  return kept;
}

async function segmentNames(folder: string): Promise<readonly SegmentName[]> {
  const names = new Map<string, SegmentName>();
  for (const file of await readdir(folder)) {
    const name = parseSegmentFile(file);
    if (name !== undefined) names.set(`${name.seq}-${name.objectId}`, name);
  }
  return [...names.values()].toSorted((a, b) => a.seq - b.seq);
}

/** A crash came between the commit of a segment and the note of its last record. */
async function noteTip(
  folder: string,
  name: SegmentName,
  { keys, end, log }: { readonly keys: SegmentKeys; readonly end: LogEnd; readonly log: Log },
): Promise<void> {
  const paths = segmentPaths(folder, name);
  const header = await readSegmentHeader(paths, keys);
  if (header?.objectId !== name.objectId || header.generation !== end.generation) return;
  const segment = await readClosedSegment(paths, keys, header, false);
  if (segment === undefined) return;
  const { session, interval } = segment.last;
  const isTip = session === end.meta.session && interval === end.meta.interval;
  if (isTip) await noteLastRecord(folder, name.seq, segment.last, log);
}

async function readSegment(
  folder: string,
  name: SegmentName,
  expected: { keys: SegmentKeys; generation: number; meta: SegmentMeta; isLast: boolean },
): Promise<ClosedSegment | undefined> {
  const { keys, generation } = expected;
  const paths = segmentPaths(folder, name);
  const header = await readSegmentHeader(paths, keys);
  if (header?.seq !== name.seq || header.objectId !== name.objectId) return undefined;
  if (header.generation !== generation) return undefined;
  return (
    (await readClosedSegment(paths, keys, header, expected.isLast)) ??
    (await recoverSegment(paths, segmentPlanOf(keys, header), metaCarriedOn(expected.meta)))
  );
}
