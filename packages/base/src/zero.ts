import { BLOCK_BYTES } from "./block-range.ts";
import { MIB } from "./units.ts";

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

const ZERO_BLOCK = Buffer.alloc(BLOCK_BYTES);

/**
 * True where the block at byte `offset` of `memory` is zero. Most blocks that are not differ in the bytes that are looked at
 * first: calling memcmp for each costs five times as much. For those that are, memcmp is four times as fast as a loop over
 * words. Allocates nothing.
 */
export function isZeroBlock(memory: Buffer, offset: number): boolean {
  if (memory[offset] !== 0 || memory[offset + 1] !== 0 || memory[offset + 2048] !== 0) return false;
  return memory.compare(ZERO_BLOCK, 0, BLOCK_BYTES, offset, offset + BLOCK_BYTES) === 0;
}
