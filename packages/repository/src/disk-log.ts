import { OsrError, hasCode } from "@osr/base/errors";

import {
  type LogSegment,
  type SegmentRef,
  checkLink,
  checkPlace,
  openSegment,
} from "./log-segment.ts";
import { OBJECT_HEADER_BYTES, type ObjectHeader, decodeObjectHeader } from "./object-header.ts";
import { type LogId, logPrefix, parseObjectName, segmentName } from "./object-names.ts";
import { type ObjectBody, type ObjectStore, STORE_ERRORS, listAll } from "./object-store.ts";
import { REPOSITORY_ERRORS } from "./repository-errors.ts";
import { NO_HEAD, SEGMENT_FOOTER_BYTES } from "./segment-footer.ts";

/** Objects in the place of a log's segments. */
export type SegmentList = {
  /** Segments 1, 2, 3 … without a gap. */
  readonly refs: readonly SegmentRef[];
  /** After the first gap. */
  readonly beyond: readonly SegmentRef[];
};

/** Names that are none of ours are left out. */
export async function listSegments(
  store: ObjectStore,
  log: LogId,
  signal?: AbortSignal,
): Promise<SegmentList> {
  const refs: SegmentRef[] = [];
  const beyond: SegmentRef[] = [];
  for await (const object of listAll(store, logPrefix(log), signal)) {
    const parsed = parseObjectName(log.vaultId, object.name);
    if (parsed?.kind !== "segment") continue;
    const isNext = parsed.seq === refs.length + 1;
    (isNext ? refs : beyond).push({ seq: parsed.seq, sizeBytes: object.sizeBytes });
  }
  return { refs, beyond };
}

/** A finished segment. `body` gives all its bytes, `footerBytes` the last 128 of them. */
export type FinishedSegment = {
  readonly header: ObjectHeader;
  readonly body: ObjectBody;
  readonly footerBytes: Buffer;
  /** Proves whether a segment in its place is authentic. */
  readonly indexRoot: Buffer;
};

/**
 * Creates a segment at its place in the log. A name that is taken is resolved by reading: my own bytes mean success; an
 * authentic segment of a higher generation means LOG_FENCED; anything else LOG_TAMPERED (with `authentic` in its details
 * where it is authentic, of my generation or a lower one). Safe to call again after any failure.
 */
export async function commitSegment(
  store: ObjectStore,
  log: LogId,
  segment: FinishedSegment,
  signal?: AbortSignal,
): Promise<void> {
  const { header } = segment;
  checkPlace(header, log, header.seq);
  const oid = header.objectId.replaceAll("-", "");
  try {
    const options = signal === undefined ? { oid } : { oid, signal };
    await store.create(segmentName(log, header.seq), segment.body, options);
  } catch (error) {
    if (!hasCode(error, STORE_ERRORS.OBJECT_EXISTS)) throw error;
    await resolveTaken(store, log, segment, signal);
  }
}

async function resolveTaken(
  store: ObjectStore,
  log: LogId,
  mine: FinishedSegment,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { seq, generation } = mine.header;
  const name = segmentName(log, seq);
  const { sizeBytes } = await store.head(name, signal);
  if (sizeBytes === mine.body.sizeBytes && (await isMine(store, name, mine, signal))) return;
  let winner: LogSegment;
  try {
    winner = await openSegment(
      store,
      log,
      { seq, sizeBytes },
      { indexRoot: mine.indexRoot, signal },
    );
  } catch (error) {
    // What the store itself cannot answer says nothing about the segment; a newer format is no tampering.
    if (!isForgery(error)) throw error;
    throw new OsrError(REPOSITORY_ERRORS.LOG_TAMPERED, `${name} is not authentic`, {
      cause: error,
      details: { seq },
    });
  }
  const { header } = winner.owner;
  if (header.generation > generation)
    throw new OsrError(
      REPOSITORY_ERRORS.LOG_FENCED,
      `generation ${header.generation} has the log of disk ${log.diskId}, mine is ${generation}`,
      { details: { seq, generation: header.generation, kind: winner.directory.meta.fence?.kind } },
    );
  if (winner.footer.isFence && header.generation === generation)
    throw new OsrError(
      REPOSITORY_ERRORS.LOG_FENCED,
      `another owner claims the log of disk ${log.diskId} with the same generation ${generation}`,
      { details: { seq, generation } },
    );
  throw new OsrError(
    REPOSITORY_ERRORS.LOG_TAMPERED,
    `${name} holds an authentic segment of generation ${header.generation}, mine is ${generation}`,
    { details: { seq, generation: header.generation, authentic: true } },
  );
}

/** True where the object has my header and my footer, whose hash covers all the rest. */
async function isMine(
  store: ObjectStore,
  name: string,
  mine: FinishedSegment,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const headerBytes = Buffer.alloc(OBJECT_HEADER_BYTES);
  const footerBytes = Buffer.alloc(SEGMENT_FOOTER_BYTES);
  await store.read(name, 0, headerBytes, signal);
  const footerOffset = mine.body.sizeBytes - SEGMENT_FOOTER_BYTES;
  await store.read(name, footerOffset, footerBytes, signal);
  try {
    const { objectId } = decodeObjectHeader(headerBytes);
    return objectId === mine.header.objectId && footerBytes.equals(mine.footerBytes);
  } catch (error) {
    if (!isForgery(error)) throw error;
    return false;
  }
}

const FORGERY_CODES = [
  REPOSITORY_ERRORS.FORMAT_UNKNOWN,
  REPOSITORY_ERRORS.OBJECT_DAMAGED,
  REPOSITORY_ERRORS.OBJECT_MISPLACED,
  REPOSITORY_ERRORS.INDEX_DAMAGED,
  REPOSITORY_ERRORS.INDEX_UNAUTHENTIC,
];

/** True where an object is not what its name says; false for what says nothing about it, such as a store that fails. */
export function isForgery(error: unknown): boolean {
  return FORGERY_CODES.some((info) => hasCode(error, info));
}

/** Throws LOG_BROKEN unless `segment` follows `before`, or starts the log where that is undefined. */
export function checkFollows(segment: LogSegment, before: LogSegment | undefined): void {
  const { seq, footer, owner } = segment;
  checkLink(
    { seq, footer, generation: owner.header.generation },
    { head: before?.head ?? NO_HEAD, generation: before?.owner.header.generation ?? 0 },
  );
}
