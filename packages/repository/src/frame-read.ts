import { must } from "@osr/base/assert";
import { BLOCK_BYTES } from "@osr/base/block-range";
import { OsrError } from "@osr/base/errors";
import { KIB, MIB } from "@osr/base/units";

import { FRAME_MEMORY_BYTES, type FrameContext, decodeFrame, frameBytesOf } from "./frame.ts";
import { REPOSITORY_ERRORS } from "./repository-errors.ts";
import type { RunTable } from "./run-table.ts";

/** One read of an object takes at most this much. */
export const FRAME_READ_BYTES_MAX = 8 * MIB;
/** Bytes between two frames that are read along with them: less work than a second request. */
const GAP_BYTES_MAX = 64 * KIB;

/** Blocks [block, block + count) of the disk, which are in a frame from its block `offsetInFrame` on. */
export type FramePiece = {
  readonly source: number;
  readonly frameOffset: number;
  readonly frameNo: number;
  readonly cipherBytes: number;
  readonly offsetInFrame: number;
  readonly block: number;
  readonly count: number;
};

/** One ranged read of one object, and what is wanted of it; pieces of one frame follow one another. */
export type FrameRead = {
  readonly source: number;
  readonly offset: number;
  readonly bytes: number;
  readonly pieces: readonly FramePiece[];
};

/**
 * What the runs of `table` hold of blocks [start, end): data pieces go to `pieces`; `onZero` hears of every range that
 * is zero, by a run or because there is none.
 */
export function collectPieces(
  table: RunTable,
  start: number,
  end: number,
  pieces: FramePiece[],
  onZero: (block: number, count: number) => void,
): void {
  let at = start;
  for (let row = table.rowAt(start); row < table.length && at < end; row++) {
    const runStart = table.starts[row] ?? 0;
    if (runStart >= end) break;
    const runEnd = Math.min(end, runStart + (table.counts[row] ?? 0));
    if (table.isZero(row)) continue;
    const from = Math.max(at, runStart);
    if (from > at) onZero(at, from - at);
    pieces.push({
      source: table.sources[row] ?? 0,
      frameOffset: table.frameOffset(row),
      frameNo: table.frameNos[row] ?? 0,
      cipherBytes: table.cipherBytes[row] ?? 0,
      offsetInFrame: (table.offsetsInFrame[row] ?? 0) + from - runStart,
      block: from,
      count: runEnd - from,
    });
    at = runEnd;
  }
  if (at < end) onZero(at, end - at);
}

/** Reads that bring all `pieces`: by object and offset, neighbours together. */
export function planReads(pieces: readonly FramePiece[]): FrameRead[] {
  const sorted = pieces.toSorted(
    (a, b) => a.source - b.source || a.frameOffset - b.frameOffset || a.block - b.block,
  );
  const reads: FrameRead[] = [];
  let first = 0;
  for (let next = 1; next <= sorted.length; next++) {
    const start = sorted[first];
    const last = sorted[next - 1];
    const piece = sorted[next];
    if (start === undefined || last === undefined) break;
    const end = last.frameOffset + frameBytesOf(last.cipherBytes);
    const joins =
      piece?.source === start.source &&
      piece.frameOffset - end <= GAP_BYTES_MAX &&
      piece.frameOffset + frameBytesOf(piece.cipherBytes) - start.frameOffset <=
        FRAME_READ_BYTES_MAX;
    if (joins) continue;
    reads.push({
      source: start.source,
      offset: start.frameOffset,
      bytes: end - start.frameOffset,
      pieces: sorted.slice(first, next),
    });
    first = next;
  }
  return reads;
}

/** Memory for decoded frames, used in turn: the blocks of a frame stay until `frames` more were decoded. */
export class FrameMemory {
  readonly #memory: readonly Buffer[];
  #next = 0;

  constructor(frames: number) {
    this.#memory = Array.from({ length: frames }, () => Buffer.allocUnsafeSlow(FRAME_MEMORY_BYTES));
  }

  next(): Buffer {
    const memory = must(this.#memory[this.#next], "memory of a frame");
    this.#next = (this.#next + 1) % this.#memory.length;
    return memory;
  }
}

/**
 * Decodes each frame of a read once, into `memory`, and gives its blocks to `onBlocks`, piece by piece. `bytes` holds what
 * was read. Throws FRAME_DAMAGED, FRAME_UNAUTHENTIC.
 */
export function decodePieces(
  read: Pick<FrameRead, "offset" | "pieces">,
  bytes: Buffer,
  by: { readonly key: Buffer; readonly context: FrameContext; readonly memory: FrameMemory },
  onBlocks: (piece: FramePiece, blocks: Buffer) => void,
): void {
  const { key, context, memory } = by;
  let plain: Buffer | undefined;
  let plainOffset = -1;
  for (const piece of read.pieces) {
    if (plain === undefined || piece.frameOffset !== plainOffset) {
      const offset = piece.frameOffset - read.offset;
      const target = memory.next();
      plain = decodeFrame({ bytes, offset, frameNo: piece.frameNo, key, context, target });
      plainOffset = piece.frameOffset;
    }
    const from = piece.offsetInFrame * BLOCK_BYTES;
    const until = from + piece.count * BLOCK_BYTES;
    if (until > plain.length)
      throw new OsrError(
        REPOSITORY_ERRORS.FRAME_DAMAGED,
        `frame ${piece.frameNo} has fewer blocks than the index says`,
      );
    onBlocks(piece, plain.subarray(from, until));
  }
}
