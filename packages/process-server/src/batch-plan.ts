import { BLOCK_BYTES } from "@osr/base/block-range";
import { blockStretch, isZeroBlock } from "@osr/base/zero";
import { HRL_TYPES, type HrlRecord } from "@osr/contracts/hrl-record";

import { type Piece, ZERO_SOURCE, newestPieces } from "./newest-pieces.ts";

/** Blocks of one frame, and of one aligned granule of a disk. */
export const GRANULE_BLOCKS = 16;

/** Numbers of one run in `runs`: block, count, offset of its content in the body of the batch in bytes. */
export const RUN_FIELDS = 3;
/** Numbers of one run in `zeroRuns`: block, count. */
export const ZERO_RUN_FIELDS = 2;

/**
 * Which blocks of a batch go into which frame. Typed arrays, because it is sent to a worker and a batch can hold
 * thousands of runs. Runs are in the order of the frames; no two runs or zero runs overlap.
 */
export type BatchPlan = {
  readonly runs: Uint32Array<ArrayBuffer>;
  /** Runs of each frame. */
  readonly frameRuns: Uint32Array<ArrayBuffer>;
  readonly zeroRuns: Uint32Array<ArrayBuffer>;
  /** Blocks in all frames. */
  readonly blockCount: number;
};

/**
 * Plans the frames of some records of a batch. Long runs are cut at multiples of 64 KiB, so that a later write to a
 * granule supersedes whole frames; what is left over, and scattered blocks, are packed together into frames of 16
 * blocks. Blocks of zeros become zero runs.
 */
export function planBatch(body: Buffer, records: readonly HrlRecord[]): BatchPlan {
  const pieces: Piece[] = [];
  for (const { header, payload } of records) {
    if (header.type === HRL_TYPES.ZERO)
      pieces.push({ block: header.block, count: header.count, sourceOffset: ZERO_SOURCE });
    if (header.type === HRL_TYPES.DATA)
      splitZeros(pieces, body, payload.byteOffset - body.byteOffset, header.block, header.count);
  }
  const frames = new FrameList();
  const zeroRuns: number[] = [];
  for (const piece of newestPieces(pieces)) {
    if (piece.sourceOffset === ZERO_SOURCE) zeroRuns.push(piece.block, piece.count);
    else planPiece(frames, piece);
  }
  return frames.finish(Uint32Array.from(zeroRuns));
}

/** Adds the blocks of one record as runs of content and runs of zeros. */
function splitZeros(
  pieces: Piece[],
  body: Buffer,
  sourceOffset: number,
  block: number,
  count: number,
): void {
  let start = 0;
  while (start < count) {
    const zero = isZeroBlock(body, sourceOffset + start * BLOCK_BYTES);
    const end = start + blockStretch(body, sourceOffset + start * BLOCK_BYTES, count - start, zero);
    pieces.push({
      block: block + start,
      count: end - start,
      sourceOffset: zero ? ZERO_SOURCE : sourceOffset + start * BLOCK_BYTES,
    });
    start = end;
  }
}

function planPiece(frames: FrameList, piece: Piece): void {
  const end = piece.block + piece.count;
  let block = piece.block;
  while (block < end) {
    const granuleEnd = (Math.floor(block / GRANULE_BLOCKS) + 1) * GRANULE_BLOCKS;
    const count = Math.min(granuleEnd, end) - block;
    const sourceOffset = piece.sourceOffset + (block - piece.block) * BLOCK_BYTES;
    if (count === GRANULE_BLOCKS) frames.addGranule(block, sourceOffset);
    else frames.addScattered(block, count, sourceOffset);
    block += count;
  }
}

/** Collects frames; scattered runs wait until 16 blocks of them are there. */
class FrameList {
  readonly #runs: number[] = [];
  readonly #frameRuns: number[] = [];
  #scattered: number[] = [];
  #scatteredBlocks = 0;
  #blockCount = 0;

  addGranule(block: number, sourceOffset: number): void {
    this.#runs.push(block, GRANULE_BLOCKS, sourceOffset);
    this.#frameRuns.push(1);
    this.#blockCount += GRANULE_BLOCKS;
  }

  addScattered(block: number, count: number, sourceOffset: number): void {
    const fitting = Math.min(count, GRANULE_BLOCKS - this.#scatteredBlocks);
    this.#scattered.push(block, fitting, sourceOffset);
    this.#scatteredBlocks += fitting;
    if (this.#scatteredBlocks === GRANULE_BLOCKS) this.#flush();
    if (fitting < count)
      this.addScattered(block + fitting, count - fitting, sourceOffset + fitting * BLOCK_BYTES);
  }

  finish(zeroRuns: Uint32Array<ArrayBuffer>): BatchPlan {
    if (this.#scatteredBlocks > 0) this.#flush();
    return {
      runs: Uint32Array.from(this.#runs),
      frameRuns: Uint32Array.from(this.#frameRuns),
      zeroRuns,
      blockCount: this.#blockCount,
    };
  }

  #flush(): void {
    for (const field of this.#scattered) this.#runs.push(field);
    this.#frameRuns.push(this.#scattered.length / RUN_FIELDS);
    this.#blockCount += this.#scatteredBlocks;
    this.#scattered = [];
    this.#scatteredBlocks = 0;
  }
}
