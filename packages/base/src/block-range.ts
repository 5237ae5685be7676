import { assert } from "./assert.ts";
import { TIB } from "./units.ts";

/** The unit of addressing everywhere, in bytes. A disk whose size is no multiple of it is padded with zeros. */
export const BLOCK_BYTES = 4096;

/** u32 block numbers: larger disks are refused when they are enrolled. */
export const DISK_BYTES_MAX = 16 * TIB;

/** A run of blocks. Block numbers are numbers, not bit patterns: `<<`, `>>` and `|` wrap at 2^31. */
export type BlockRange = { readonly start: number; readonly count: number };

/** Blocks of a disk of `bytes`; the last one may be partly beyond its end. */
export function blocksOf(bytes: number): number {
  return Math.ceil(bytes / BLOCK_BYTES);
}

/** Splits a range into pieces of at most `countMax` blocks that don't cross multiples of `countMax`. */
export function* alignedPieces(range: BlockRange, countMax: number): Generator<BlockRange> {
  assert(countMax > 0, "pieces have at least one block");
  const end = range.start + range.count;
  for (let start = range.start; start < end;) {
    const boundary = (Math.floor(start / countMax) + 1) * countMax;
    const count = Math.min(boundary, end) - start;
    yield { start, count };
    start += count;
  }
}
