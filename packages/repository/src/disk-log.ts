import { OsrError, hasCode } from "@osr/base/errors";
import type { Clock } from "@osr/base/clock";
import type { Randomness } from "@osr/base/randomness";
import { type Uuid, randomUuid } from "@osr/base/uuid";
import type { Tag } from "@osr/contracts/tag";

import { type DataKey, indexKeyOf, indexRootOf } from "./key-schedule.ts";
import {
  type LogSegment,
  type SegmentRef,
  checkLink,
  checkPlace,
  openSegment,
} from "./log-segment.ts";
import {
  OBJECT_HEADER_BYTES,
  OBJECT_KINDS,
  type ObjectHeader,
  checkWritable,
  decodeObjectHeader,
} from "./object-header.ts";
import { type LogId, logPrefix, parseObjectName, segmentName } from "./object-names.ts";
import {
  type ObjectBody,
  type ObjectStore,
  STORE_ERRORS,
  bodyOf,
  listAll,
} from "./object-store.ts";
import { REPOSITORY_ERRORS } from "./repository-errors.ts";
import { SegmentBuilder } from "./segment-builder.ts";
import { NO_HEAD, SEGMENT_FOOTER_BYTES } from "./segment-footer.ts";
import type { FenceKind, SegmentMeta } from "./segment-meta.ts";

/** Claims that are tried while the old owner goes on to commit. */
const CLAIM_ATTEMPTS_MAX = 8;

/** The last segment of a log. */
export type LogTip = {
  readonly seq: number;
  readonly generation: number;
  /** SHA-256 of the segment's footer: `previousHead` of the next one. */
  readonly head: Buffer;
  readonly meta: SegmentMeta;
};

/** The segments of a log, in order. Throws LOG_BROKEN where one is missing. Names that are none of ours are left out. */
export async function listSegments(
  store: ObjectStore,
  log: LogId,
  signal?: AbortSignal,
): Promise<readonly SegmentRef[]> {
  const refs: SegmentRef[] = [];
  for await (const object of listAll(store, logPrefix(log), signal)) {
    const parsed = parseObjectName(log.vaultId, object.name);
    if (parsed?.kind !== "segment") continue;
    if (parsed.seq !== refs.length + 1)
      throw new OsrError(
        REPOSITORY_ERRORS.LOG_BROKEN,
        `segment ${refs.length + 1} of disk ${log.diskId} is missing`,
        { details: { seq: refs.length + 1 } },
      );
    refs.push({ seq: parsed.seq, sizeBytes: object.sizeBytes });
  }
  return refs;
}

/** The tip of a log, authenticated and chained to the segment before it; undefined where the log is empty. */
export async function readLogTip(
  store: ObjectStore,
  log: LogId,
  indexRoot: Buffer,
  signal?: AbortSignal,
): Promise<LogTip | undefined> {
  const tip = await openTip(store, log, indexRoot, signal);
  return tip === undefined ? undefined : tipOf(tip);
}

/** Segments that end with a tag, the newest first, and where they are. For completing recovery points. */
export async function* taggedSegments(
  store: ObjectStore,
  log: LogId,
  indexRoot: Buffer,
  signal?: AbortSignal,
): AsyncGenerator<{ readonly tag: Tag; readonly seq: number; readonly head: Buffer }> {
  const refs = await listSegments(store, log, signal);
  let next: LogSegment | undefined;
  for (const ref of refs.toReversed()) {
    const segment = await openSegment(store, log, ref, { indexRoot, signal });
    if (next !== undefined) checkFollows(next, segment);
    const { tag } = segment.directory.meta;
    if (tag !== undefined) yield { tag, seq: segment.seq, head: segment.head };
    next = segment;
  }
}

export type ClaimOptions = {
  readonly dataKey: DataKey;
  readonly owner: Uuid;
  readonly kind: FenceKind;
  readonly clock: Clock;
  readonly randomness: Randomness;
  readonly signal?: AbortSignal;
};

/**
 * Makes `owner` the owner of the log: creates a fence with the next generation after the tip. From then on no commit of
 * an older generation succeeds. Throws LOG_FENCED where another one claims it at the same time or the machine has failed
 * over, LOG_TAMPERED where somebody without the keys has taken the name.
 */
export async function claimLog(
  store: ObjectStore,
  log: LogId,
  options: ClaimOptions,
): Promise<LogTip> {
  const indexRoot = indexRootOf(options.dataKey);
  for (let attempt = 1; ; attempt++) {
    const last = await openTip(store, log, indexRoot, options.signal);
    if (last !== undefined) checkClaimable(last, options.kind);
    const tip = last === undefined ? undefined : tipOf(last);
    const header = fenceHeader(log, tip, options);
    const meta = fenceMeta(tip?.meta, options);
    const builder = new SegmentBuilder(header, indexKeyOf(indexRoot, header.objectId));
    const end = builder.finish(tip?.head ?? NO_HEAD, meta);
    const footerBytes = end.subarray(end.length - SEGMENT_FOOTER_BYTES);
    const bytes = Buffer.concat([builder.headerBytes, end]);
    try {
      await commitSegment(
        store,
        log,
        { header, body: bodyOf(bytes), footerBytes, indexRoot },
        options.signal,
      );
    } catch (error) {
      const isLate = hasCode(error, REPOSITORY_ERRORS.LOG_TAMPERED) && "authentic" in error.details;
      if (!isLate || attempt >= CLAIM_ATTEMPTS_MAX) throw error;
      // The old owner has committed once more before the fence: claim after that segment.
      continue;
    }
    const created = { seq: header.seq, sizeBytes: bytes.length };
    return tipOf(await openSegment(store, log, created, { indexRoot, signal: options.signal }));
  }
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
      { details: { seq, generation: header.generation } },
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

function isForgery(error: unknown): boolean {
  return FORGERY_CODES.some((info) => hasCode(error, info));
}

async function openTip(
  store: ObjectStore,
  log: LogId,
  indexRoot: Buffer,
  signal: AbortSignal | undefined,
): Promise<LogSegment | undefined> {
  const refs = await listSegments(store, log, signal);
  const ref = refs.at(-1);
  if (ref === undefined) return undefined;
  const tip = await openSegment(store, log, ref, { indexRoot, signal });
  const beforeRef = refs.at(-2);
  const before =
    beforeRef === undefined
      ? undefined
      : await openSegment(store, log, beforeRef, { indexRoot, signal });
  checkFollows(tip, before);
  return tip;
}

/** Throws LOG_BROKEN unless `segment` follows `before`, or starts the log where that is undefined. */
export function checkFollows(segment: LogSegment, before: LogSegment | undefined): void {
  const { seq, footer, owner } = segment;
  checkLink(
    { seq, footer, generation: owner.header.generation },
    { head: before?.head ?? NO_HEAD, generation: before?.owner.header.generation ?? 0 },
  );
}

function tipOf(segment: LogSegment): LogTip {
  const { seq, head, directory, owner } = segment;
  return { seq, generation: owner.header.generation, head, meta: directory.meta };
}

function checkClaimable(tip: LogSegment, kind: FenceKind): void {
  checkWritable(tip.headerBytes);
  if (tip.directory.meta.fence?.kind === "failover" && kind !== "failover")
    throw new OsrError(
      REPOSITORY_ERRORS.LOG_FENCED,
      `disk ${tip.owner.header.diskId} has failed over: its log takes no new owner`,
      { details: { seq: tip.seq } },
    );
}

function fenceHeader(log: LogId, tip: LogTip | undefined, options: ClaimOptions): ObjectHeader {
  return {
    kind: OBJECT_KINDS.SEGMENT,
    ...log,
    generation: (tip?.generation ?? 0) + 1,
    seq: (tip?.seq ?? 0) + 1,
    objectId: randomUuid(options.randomness),
    keyVersion: options.dataKey.version,
    createdUnixMs: options.clock.unixMs(),
  };
}

function fenceMeta(before: SegmentMeta | undefined, options: ClaimOptions): SegmentMeta {
  return {
    fence: { kind: options.kind, owner: options.owner },
    session: before?.session ?? 0,
    interval: before?.interval ?? 0,
    intervalEnded: before?.intervalEnded ?? 0,
  };
}
