import { BLOCK_BYTES } from "./block-range.ts";
import { MIB } from "./units.ts";

/** Blocks of zeros that are compared at once at the most. */
const ZERO_BLOCKS_MAX = MIB / BLOCK_BYTES;

const ZEROS = new Uint8Array(MIB);

/** True where every byte of `bytes` is zero. Compares with memcmp; allocates at most a view. */
export function isZero(bytes: Uint8Array): boolean {
  for (let offset = 0; offset < bytes.byteLength; offset += ZEROS.byteLength) {
    const piece =
      offset === 0 && bytes.byteLength <= MIB ? bytes : bytes.subarray(offset, offset + MIB);
    const zeros = piece.byteLength === MIB ? ZEROS : ZEROS.subarray(0, piece.byteLength);
    if (Buffer.compare(piece, zeros) !== 0) return false;
  }
  return true;
}

/**
 * From byte `offset` of `memory` on: how many blocks, of `countMax`, are zero (`zero` true), or are not (`zero` false), without
 * a break. Each call of memcmp makes some 300 bytes of garbage, so that long stretches of zeros are compared in large pieces.
 */
export function blockStretch(
  memory: Buffer,
  offset: number,
  countMax: number,
  zero: boolean,
): number {
  let count = 0;
  if (!zero) {
    while (count < countMax && !isZeroBlock(memory, offset + count * BLOCK_BYTES)) count += 1;
    return count;
  }
  for (let step = 1; count < countMax;) {
    const piece = Math.min(step, countMax - count);
    if (areZeroBlocks(memory, offset + count * BLOCK_BYTES, piece)) {
      count += piece;
      step = Math.min(step * 4, ZERO_BLOCKS_MAX);
    } else if (piece > 1) step = 1;
    else break;
  }
  return count;
}

/**
 * True where the block at byte `offset` of `memory` is zero. Most blocks that are not differ in the bytes that are looked at
 * first: calling memcmp for each costs five times as much. For those that are, memcmp is four times as fast as a loop over
 * words.
 */
export function isZeroBlock(memory: Buffer, offset: number): boolean {
  return areZeroBlocks(memory, offset, 1);
}

function areZeroBlocks(memory: Buffer, offset: number, count: number): boolean {
  if (memory[offset] !== 0 || memory[offset + 1] !== 0 || memory[offset + 2048] !== 0) return false;
  const bytes = count * BLOCK_BYTES;
  return memory.compare(ZEROS, 0, bytes, offset, offset + bytes) === 0;
}
