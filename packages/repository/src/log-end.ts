import { OsrError } from "@osr/base/errors";

import { checkFollows, isForgery, listSegments } from "./disk-log.ts";
import { readLineage } from "./log-lineage.ts";
import { type LogSegment, type SegmentRef, openSegment } from "./log-segment.ts";
import { type LogId, segmentName } from "./object-names.ts";
import type { ObjectStore } from "./object-store.ts";
import { REPOSITORY_ERRORS } from "./repository-errors.ts";
import type { SegmentMeta } from "./segment-meta.ts";

/** Objects in a log's place that are not authentic, and that are looked at in search of its end. */
const FOREIGN_MAX = 64;

/** The last segment of a log. */
export type LogTip = {
  readonly seq: number;
  readonly generation: number;
  /** SHA-256 of the segment's footer: `previousHead` of the next one. */
  readonly head: Buffer;
  readonly meta: SegmentMeta;
};

/** Where a log ends. */
export type LogEnd = {
  /** Its last authentic segment; undefined where it has none of its own. */
  readonly tip: LogSegment | undefined;
  /** The last segment of what it branches off; undefined where that holds nothing. */
  readonly base: LogSegment | undefined;
  /** Present where somebody without the keys took the name after the tip: the log cannot go on. */
  readonly takenSeq: number | undefined;
};

/** The tip of a log, authenticated and chained to the segment before it; undefined where it has none of its own. */
export async function readLogTip(
  store: ObjectStore,
  log: LogId,
  indexRoot: Buffer,
  signal?: AbortSignal,
): Promise<LogTip | undefined> {
  const { tip } = await readLogEnd(store, log, indexRoot, signal);
  return tip === undefined ? undefined : tipOf(tip);
}

/**
 * Finds the end of a log: objects after its last authentic segment do not count. Throws LOG_BROKEN where a segment is
 * missing before an authentic one or the tip does not follow the one before it, LOG_TAMPERED where too many objects are
 * not authentic.
 */
export async function readLogEnd(
  store: ObjectStore,
  log: LogId,
  indexRoot: Buffer,
  signal?: AbortSignal,
): Promise<LogEnd> {
  const lineage = await readLineage(store, log, indexRoot, signal);
  let base: LogSegment | undefined;
  for (const { log: parent, seqEnd } of lineage) {
    if (seqEnd === undefined || seqEnd === 0) continue;
    const { sizeBytes } = await store.head(segmentName(parent, seqEnd), signal);
    base = await openSegment(store, parent, { seq: seqEnd, sizeBytes }, { indexRoot, signal });
  }
  const { refs, beyond } = await listSegments(store, log, signal);
  const open = (ref: SegmentRef): Promise<LogSegment> =>
    openSegment(store, log, ref, { indexRoot, signal });
  const own = [...refs];
  const tip = await lastAuthentic(log, own, open);
  await checkBeyond(log, refs.length + 1, beyond, open);
  const takenSeq = own.length < refs.length ? own.length + 1 : undefined;
  if (tip !== undefined) {
    const beforeRef = own.at(-2);
    checkFollows(tip, beforeRef === undefined ? base : await open(beforeRef));
  }
  return { tip, base, takenSeq };
}

export function tipOf(segment: LogSegment): LogTip {
  const { seq, head, directory, owner } = segment;
  return { seq, generation: owner.header.generation, head, meta: directory.meta };
}

/** Takes what is not authentic off the end of `refs`, and gives the segment that is the last then. */
async function lastAuthentic(
  log: LogId,
  refs: SegmentRef[],
  open: (ref: SegmentRef) => Promise<LogSegment>,
): Promise<LogSegment | undefined> {
  for (let foreign = 0; ; foreign++) {
    const ref = refs.at(-1);
    if (ref === undefined) return undefined;
    try {
      return await open(ref);
    } catch (error) {
      if (!isForgery(error)) throw error;
      if (foreign >= FOREIGN_MAX) throw tampered(log, ref.seq, error);
      refs.pop();
    }
  }
}

/** What lies beyond a gap must be foreign: an authentic segment there would mean that one before it was lost. */
async function checkBeyond(
  log: LogId,
  missingSeq: number,
  beyond: readonly SegmentRef[],
  open: (ref: SegmentRef) => Promise<LogSegment>,
): Promise<void> {
  for (const ref of beyond.slice(0, FOREIGN_MAX)) {
    try {
      await open(ref);
    } catch (error) {
      if (isForgery(error)) continue;
      throw error;
    }
    throw new OsrError(
      REPOSITORY_ERRORS.LOG_BROKEN,
      `segment ${missingSeq} of disk ${log.diskId} is missing`,
      { details: { seq: missingSeq } },
    );
  }
}

function tampered(log: LogId, seq: number, cause: unknown): OsrError {
  return new OsrError(
    REPOSITORY_ERRORS.LOG_TAMPERED,
    `more than ${FOREIGN_MAX} objects in the log of disk ${log.diskId} are not authentic`,
    { cause, details: { seq } },
  );
}
