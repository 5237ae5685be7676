import { createHash } from "node:crypto";

import { OsrError } from "@osr/base/errors";
import { MIB } from "@osr/base/units";
import type { Tag } from "@osr/contracts/tag";

import { prepareFrameContext } from "./frame.ts";
import { FrameScanner } from "./frame-scanner.ts";
import { type DataKey, frameKeyOf, indexRootOf } from "./key-schedule.ts";
import { type SegmentRef, checkPlace, openSegment } from "./log-segment.ts";
import { OBJECT_HEADER_BYTES, type ObjectHeader, decodeObjectHeader } from "./object-header.ts";
import { type LogId, segmentName } from "./object-names.ts";
import type { ObjectStore } from "./object-store.ts";
import { REPOSITORY_ERRORS } from "./repository-errors.ts";
import {
  SEGMENT_FOOTER_BYTES,
  type SegmentFooter,
  decodeFooter,
  headOf,
} from "./segment-footer.ts";
import { openShard } from "./segment-index.ts";

const READ_BYTES = 8 * MIB;

/** What was found about one segment. */
export type CheckedSegment = {
  readonly header: ObjectHeader;
  readonly footer: SegmentFooter;
  readonly head: Buffer;
  /** With keys: the tag that it ends with. */
  readonly tag: Tag | undefined;
};

export type SegmentCheckOptions = {
  readonly log: LogId;
  readonly ref: SegmentRef;
  /** The data key of a version; undefined where the check runs without keys. */
  readonly dataKeyOf: (version: number) => DataKey | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Hears of every problem that does not end the check of the segment. */
  readonly onProblem: (error: OsrError) => void;
};

/**
 * Reads all of a segment and checks header, footer, every frame, the content hash and, with keys, the index and that its
 * runs lie in frames. Yields the bytes that were read, then returns what it knows. Throws where the segment cannot be
 * understood at all.
 */
export async function* checkSegment(
  store: ObjectStore,
  options: SegmentCheckOptions,
): AsyncGenerator<number, CheckedSegment> {
  const { log, ref, signal, onProblem } = options;
  const name = segmentName(log, ref.seq);
  const { header, footer, footerBytes } = await readEnds(store, name, ref, signal);
  checkPlace(header, log, ref.seq);
  const dataKey = options.dataKeyOf(header.keyVersion);
  const keys =
    dataKey === undefined
      ? undefined
      : { key: frameKeyOf(dataKey, header.objectId), context: prepareFrameContext(header) };
  const scanner = new FrameScanner(OBJECT_HEADER_BYTES, footer.indexOffset, keys);
  const hash = createHash("sha256");
  const contentEnd = ref.sizeBytes - SEGMENT_FOOTER_BYTES;
  let framesAreWhole = true;
  for (let offset = 0; offset < contentEnd; offset += READ_BYTES) {
    const bytes = Buffer.allocUnsafeSlow(Math.min(READ_BYTES, contentEnd - offset));
    await store.read(name, offset, bytes, signal);
    hash.update(bytes);
    const frames = bytes.subarray(
      Math.max(0, OBJECT_HEADER_BYTES - offset),
      Math.max(0, footer.indexOffset - offset),
    );
    framesAreWhole &&= attempt(onProblem, () => scanner.feed(frames));
    yield bytes.length;
  }
  attempt(onProblem, () => {
    if (!hash.digest().equals(footer.contentSha256)) damaged("the hash of its content differs");
    if (framesAreWhole && scanner.frameCount !== footer.frameCount)
      damaged(`it has ${scanner.frameCount} frames, its footer says ${footer.frameCount}`);
  });
  const head = headOf(footerBytes);
  if (dataKey === undefined) return { header, footer, head, tag: undefined };
  const indexRoot = indexRootOf(dataKey);
  const tag = await checkIndex(store, options, framesAreWhole ? scanner : undefined, indexRoot);
  return { header, footer, head, tag };
}

/** Opens directory and shards; returns the tag. */
async function checkIndex(
  store: ObjectStore,
  { log, ref, signal, onProblem }: SegmentCheckOptions,
  scanner: FrameScanner | undefined,
  indexRoot: Buffer,
): Promise<Tag | undefined> {
  const { directory, owner, footer, name } = await openSegment(store, log, ref, {
    indexRoot,
    signal,
  });
  let runs = 0;
  let zeroRuns = 0;
  for (let index = 0; index < directory.shardCount; index++) {
    const entry = directory.shardAt(index);
    const sealed = Buffer.alloc(entry.sealedBytes);
    const shardsOffset = footer.indexOffset + footer.directoryBytes;
    await store.read(name, shardsOffset + entry.offset, sealed, signal);
    attempt(onProblem, () => {
      const table = openShard(sealed, entry, owner, { framesEnd: footer.indexOffset, source: 0 });
      for (let row = 0; row < table.length; row++) {
        if (table.isZero(row)) continue;
        scanner?.checkRun(
          table.frameNos[row] ?? 0,
          table.frameOffset(row),
          table.offsetsInFrame[row] ?? 0,
          table.counts[row] ?? 0,
        );
      }
    });
    runs += entry.runs;
    zeroRuns += entry.zeroRuns;
  }
  attempt(onProblem, () => {
    if (runs !== footer.runCount || zeroRuns !== footer.zeroRunCount)
      damaged("the number of its runs differs");
  });
  return directory.meta.tag;
}

async function readEnds(
  store: ObjectStore,
  name: string,
  { sizeBytes }: SegmentRef,
  signal: AbortSignal | undefined,
): Promise<{
  readonly header: ObjectHeader;
  readonly footer: SegmentFooter;
  readonly footerBytes: Buffer;
}> {
  if (sizeBytes < OBJECT_HEADER_BYTES + SEGMENT_FOOTER_BYTES) damaged("it is truncated");
  const headerBytes = Buffer.alloc(OBJECT_HEADER_BYTES);
  await store.read(name, 0, headerBytes, signal);
  const footerBytes = Buffer.alloc(SEGMENT_FOOTER_BYTES);
  await store.read(name, sizeBytes - SEGMENT_FOOTER_BYTES, footerBytes, signal);
  const header = decodeObjectHeader(headerBytes);
  return { header, footer: decodeFooter(footerBytes, sizeBytes), footerBytes };
}

/** Runs `check`; errors of ours go to `onProblem`. True where there was none. */
function attempt(onProblem: (error: OsrError) => void, check: () => void): boolean {
  try {
    check();
    return true;
  } catch (error) {
    if (!(error instanceof OsrError)) throw error;
    onProblem(error);
    return false;
  }
}

function damaged(message: string): never {
  throw new OsrError(REPOSITORY_ERRORS.OBJECT_DAMAGED, message);
}
