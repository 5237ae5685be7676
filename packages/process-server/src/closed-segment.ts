import { createHash } from "node:crypto";
import { open, rm } from "node:fs/promises";

import { OsrError } from "@osr/base/errors";
import { MIB } from "@osr/base/units";
import type { ObjectBody } from "@osr/repository/object-store";
import {
  SEGMENT_FOOTER_BYTES,
  type SegmentFooter,
  chainFooter,
  decodeFooter,
} from "@osr/repository/segment-footer";
import type { SegmentMeta } from "@osr/repository/segment-meta";

import { ContentMac } from "./content-mac.ts";
import { readFully } from "./file-writing.ts";
import type { LastRecord } from "./last-record.ts";
import { PROCESS_SERVER_ERRORS } from "./process-server-errors.ts";
import type { SegmentPlan } from "./segment-plan.ts";
import type { SegmentPaths } from "./spool-layout.ts";

/** One read while a segment goes up. */
const UPLOAD_PIECE_BYTES = MIB;

/** A segment in the spool that takes nothing more: all of the object but for `previousHead` in its footer. */
export type ClosedSegment = {
  readonly plan: SegmentPlan;
  readonly paths: SegmentPaths;
  readonly meta: SegmentMeta;
  readonly last: LastRecord;
  /** Of the whole object. */
  readonly sizeBytes: number;
  readonly footer: SegmentFooter;
  readonly footerBytes: Buffer;
  /** The index, where the disk of the spool was too full to take it. It is made again from the journal after a restart. */
  readonly indexInMemory?: Buffer;
  /** Of all before the footer, as this process wrote it; absent where an earlier one did. */
  readonly mac?: SegmentMac;
};

export type SegmentMac = { readonly key: Buffer; readonly digest: Buffer };

/** `tail`: index and footer. */
export function closedSegmentOf(
  plan: SegmentPlan,
  paths: SegmentPaths,
  what: { readonly meta: SegmentMeta; readonly last: LastRecord },
  end: {
    readonly indexOffset: number;
    readonly tail: Buffer;
    readonly inMemory?: boolean;
    readonly mac?: SegmentMac;
  },
): ClosedSegment {
  const sizeBytes = end.indexOffset + end.tail.length;
  const footerBytes = Buffer.from(end.tail.subarray(-SEGMENT_FOOTER_BYTES));
  const index = end.tail.subarray(0, -SEGMENT_FOOTER_BYTES);
  return {
    plan,
    paths,
    ...what,
    sizeBytes,
    footer: decodeFooter(footerBytes, sizeBytes),
    footerBytes,
    ...(end.inMemory === true ? { indexInMemory: Buffer.from(index) } : {}),
    ...(end.mac === undefined ? {} : { mac: end.mac }),
  };
}

/**
 * The object as it is uploaded, with its footer chained to `previousHead`. The content is checked on its way: where the
 * spool's disk gives other bytes than were written, the body fails with SPOOL_DAMAGED before its end, so that no object
 * comes into being. `moved` is called as the data goes.
 */
export function uploadOf(
  segment: ClosedSegment,
  previousHead: Buffer,
  moved: (bytes: number) => void,
): { readonly footerBytes: Buffer; readonly body: ObjectBody } {
  const footerBytes = chainFooter(segment.footerBytes, previousHead);
  const released: Buffer[] = [];
  async function* pieces(): AsyncGenerator<Uint8Array> {
    const { mac, footer } = segment;
    const check = mac === undefined ? createHash("sha256") : new ContentMac(mac.key);
    for await (const piece of contentOf(segment, released)) {
      check.update(piece);
      moved(piece.length);
      yield piece;
    }
    if (!check.digest().equals(mac?.digest ?? footer.contentSha256)) throw damaged(segment);
    moved(footerBytes.length);
    yield footerBytes;
  }
  const release = (piece: Uint8Array): void => {
    if (piece.byteLength === UPLOAD_PIECE_BYTES) released.push(piece as Buffer);
  };
  return { footerBytes, body: { sizeBytes: segment.sizeBytes, open: pieces, release } };
}

/** All bytes before the footer, in pieces: memory of UPLOAD_PIECE_BYTES in `released` is taken for them. */
export async function* contentOf(
  segment: ClosedSegment,
  released: Buffer[] = [],
): AsyncGenerator<Buffer> {
  const { footer, indexInMemory } = segment;
  const inFile =
    indexInMemory === undefined ? segment.sizeBytes - SEGMENT_FOOTER_BYTES : footer.indexOffset;
  const handle = await open(segment.paths.seg, "r");
  try {
    for (let offset = 0; offset < inFile; offset += UPLOAD_PIECE_BYTES) {
      const memory = released.pop() ?? Buffer.allocUnsafeSlow(UPLOAD_PIECE_BYTES);
      const piece = memory.subarray(0, inFile - offset);
      if ((await readFully(handle, piece, offset)) < piece.length) throw damaged(segment);
      yield piece;
    }
  } finally {
    await handle.close();
  }
  // A copy: a piece of that length may be written to afterwards.
  if (indexInMemory !== undefined) yield Buffer.from(indexInMemory);
}

/** Removes the files: the `.seg` first, since one without a journal would look as if it had never been written to. */
export async function removeSegmentFiles(paths: SegmentPaths): Promise<void> {
  await rm(paths.seg, { force: true });
  await rm(paths.jnl, { force: true });
}

function damaged(segment: ClosedSegment): OsrError {
  return new OsrError(
    PROCESS_SERVER_ERRORS.SPOOL_DAMAGED,
    `${segment.paths.seg} is not what was written`,
  );
}
