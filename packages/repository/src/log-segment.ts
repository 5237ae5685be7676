import { OsrError } from "@osr/base/errors";
import { KIB } from "@osr/base/units";

import type { IndexOwner } from "./index-part.ts";
import { indexKeyOf } from "./key-schedule.ts";
import {
  OBJECT_HEADER_BYTES,
  OBJECT_KINDS,
  type ObjectHeader,
  decodeObjectHeader,
} from "./object-header.ts";
import { type LogId, segmentName } from "./object-names.ts";
import { OBJECT_BYTES_MAX, type ObjectStore } from "./object-store.ts";
import { REPOSITORY_ERRORS } from "./repository-errors.ts";
import {
  SEGMENT_FOOTER_BYTES,
  type SegmentFooter,
  decodeFooter,
  headOf,
} from "./segment-footer.ts";
import { type SegmentDirectory, decodeDirectory } from "./segment-index.ts";

/** One read of this length opens nearly every segment. */
const TAIL_BYTES = 64 * KIB;

/** A segment as a list of the log shows it. */
export type SegmentRef = { readonly seq: number; readonly sizeBytes: number };

/** A segment whose header, footer and directory were read and checked. */
export type LogSegment = SegmentRef & {
  readonly name: string;
  readonly headerBytes: Buffer;
  readonly footer: SegmentFooter;
  readonly head: Buffer;
  readonly owner: IndexOwner;
  readonly directory: SegmentDirectory;
  /** The sealed shards, where the tail held all of them; a view of it. */
  readonly shards: Buffer | undefined;
};

/**
 * Opens a segment with at most three reads. Its header must be that of this disk, timeline and seq, and its directory must
 * open with the index key. Throws FORMAT_UNKNOWN, FORMAT_NEWER, OBJECT_DAMAGED, OBJECT_MISPLACED, INDEX_DAMAGED,
 * INDEX_UNAUTHENTIC.
 */
export async function openSegment(
  store: ObjectStore,
  log: LogId,
  ref: SegmentRef,
  options: { readonly indexRoot: Buffer; readonly signal?: AbortSignal | undefined },
): Promise<LogSegment> {
  const { seq, sizeBytes } = ref;
  const name = segmentName(log, seq);
  if (sizeBytes < OBJECT_HEADER_BYTES + SEGMENT_FOOTER_BYTES || sizeBytes > OBJECT_BYTES_MAX)
    throw new OsrError(
      REPOSITORY_ERRORS.OBJECT_DAMAGED,
      `${name} has ${sizeBytes} bytes: it is truncated or no segment`,
    );
  return named(name, async () => {
    const { headerBytes, tail } = await readEnds(store, name, sizeBytes, options.signal);
    const header = decodeObjectHeader(headerBytes);
    checkPlace(header, log, seq);
    const footerBytes = tail.subarray(tail.length - SEGMENT_FOOTER_BYTES);
    const footer = decodeFooter(footerBytes, sizeBytes);
    const owner = { header, indexKey: indexKeyOf(options.indexRoot, header.objectId) };
    const tailStart = sizeBytes - tail.length;
    const sealed = await part(footer.indexOffset, footer.directoryBytes);
    const shardsBytes = footer.indexBytes - footer.directoryBytes;
    const directory = decodeDirectory(sealed, owner, shardsBytes);
    if (footer.isFence !== (directory.meta.fence !== undefined)) damaged("fence flag differs");
    if (footer.endsWithTag !== (directory.meta.tag !== undefined)) damaged("tag flag differs");
    if (footer.slot !== (directory.meta.tag?.slot ?? 0)) damaged("slot differs from its tag");
    const shardsStart = footer.indexOffset + footer.directoryBytes - tailStart;
    const shards =
      shardsStart >= 0 ? tail.subarray(shardsStart, shardsStart + shardsBytes) : undefined;
    const head = headOf(footerBytes);
    return { seq, sizeBytes, name, headerBytes, footer, head, owner, directory, shards };

    async function part(offset: number, bytes: number): Promise<Buffer> {
      if (offset >= tailStart) return tail.subarray(offset - tailStart, offset - tailStart + bytes);
      const target = Buffer.alloc(bytes);
      await store.read(name, offset, target, options.signal);
      return target;
    }
  });
}

/** Throws OBJECT_MISPLACED unless `header` is the one of segment `seq` of `log`. */
export function checkPlace(header: ObjectHeader, log: LogId, seq: number): void {
  const isHere =
    header.kind === OBJECT_KINDS.SEGMENT &&
    header.vaultId === log.vaultId &&
    header.diskId === log.diskId &&
    header.timeline === log.timeline &&
    header.seq === seq;
  if (!isHere)
    throw new OsrError(
      REPOSITORY_ERRORS.OBJECT_MISPLACED,
      `it is segment ${header.seq} of disk ${header.diskId}, timeline ${header.timeline}`,
    );
}

/** Throws LOG_BROKEN unless `segment` follows `previous`; undefined stands for the start of the log. */
export function checkLink(
  segment: Pick<LogSegment, "seq" | "footer"> & { readonly generation: number },
  previous: { readonly head: Buffer; readonly generation: number },
): void {
  if (!segment.footer.previousHead.equals(previous.head))
    throw new OsrError(
      REPOSITORY_ERRORS.LOG_BROKEN,
      `segment ${segment.seq} does not follow the one before it`,
      { details: { seq: segment.seq } },
    );
  const isNext = segment.footer.isFence
    ? segment.generation > previous.generation
    : segment.generation === previous.generation;
  if (!isNext)
    throw new OsrError(
      REPOSITORY_ERRORS.LOG_BROKEN,
      `segment ${segment.seq} has generation ${segment.generation} after ${previous.generation}`,
      { details: { seq: segment.seq } },
    );
}

async function readEnds(
  store: ObjectStore,
  name: string,
  sizeBytes: number,
  signal: AbortSignal | undefined,
): Promise<{ readonly headerBytes: Buffer; readonly tail: Buffer }> {
  const tail = Buffer.alloc(Math.min(TAIL_BYTES, sizeBytes));
  const start = sizeBytes - tail.length;
  if (start === 0) {
    await store.read(name, 0, tail, signal);
    return { headerBytes: tail.subarray(0, OBJECT_HEADER_BYTES), tail };
  }
  const headerBytes = Buffer.alloc(OBJECT_HEADER_BYTES);
  await Promise.all([
    store.read(name, 0, headerBytes, signal),
    store.read(name, start, tail, signal),
  ]);
  return { headerBytes, tail };
}

/** Puts the object's name before the message of any error of ours. */
async function named<T>(name: string, task: () => Promise<T>): Promise<T> {
  try {
    return await task();
  } catch (error) {
    if (!(error instanceof OsrError) || error.message.includes(name)) throw error;
    const { code, retryable, hint, details } = error;
    throw new OsrError({ code, retryable, hint }, `${name}: ${error.message}`, {
      cause: error,
      details,
    });
  }
}

function damaged(message: string): never {
  throw new OsrError(REPOSITORY_ERRORS.OBJECT_DAMAGED, message);
}
