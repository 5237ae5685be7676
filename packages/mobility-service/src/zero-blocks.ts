import { BLOCK_BYTES } from "@osr/base/block-range";

const BLOCK_WORDS = BLOCK_BYTES / 4;

/** The words of page-aligned memory, for `zeroPrefix`. */
export function wordsOf(memory: Buffer): Int32Array {
  return new Int32Array(memory.buffer, memory.byteOffset, memory.length / 4);
}

/**
 * From block `from` on: how many blocks before `to` are zero (`zero` true), or are not (`zero` false), without a break.
 * Block numbers count within `words`. Allocates nothing.
 */
export function stretch(words: Int32Array, from: number, to: number, zero: boolean): number {
  let at = from;
  while (at < to && isZeroBlock(words, at) === zero) at += 1;
  return at - from;
}

function isZeroBlock(words: Int32Array, block: number): boolean {
  const start = block * BLOCK_WORDS;
  const end = start + BLOCK_WORDS;
  for (let at = start; at < end; at++) if (words[at] !== 0) return false;
  return true;
}
