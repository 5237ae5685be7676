/** Bits of words of 32, as JavaScript's bit operations have them: signed or not is the same here. */

/** Bits that are set. */
export function bitCount(word: number): number {
  let n = word - ((word >>> 1) & 0x55555555);
  n = (n & 0x33333333) + ((n >>> 2) & 0x33333333);
  return (((n + (n >>> 4)) & 0x0f0f0f0f) * 0x01010101) >>> 24;
}

/** The place of the lowest bit that is set; `word` is not 0. */
export function lowestBit(word: number): number {
  return 31 - Math.clz32(word & -word);
}

/** Bits [from, to) of a word; 0 <= from < to <= 32. */
export function bitsWithin(from: number, to: number): number {
  const length = to - from;
  return (length === 32 ? -1 : (1 << length) - 1) << from;
}
