import { bitCount, bitsWithin, lowestBit } from "@osr/base/bits";

/** Bits of one page in words of 32. Places are small (below 2^31), so bit operations are safe here. */

export function bitAt(bits: Uint32Array, bit: number): boolean {
  return (((bits[bit >>> 5] ?? 0) >>> (bit & 31)) & 1) === 1;
}

/** Sets [from, to); returns how many were clear before. */
export function setBits(bits: Uint32Array, from: number, to: number): number {
  let changed = 0;
  for (let bit = from; bit < to;) {
    changed += setWord(bits, bit, maskOf(bit, to));
    bit = ((bit >>> 5) + 1) * 32;
  }
  return changed;
}

/** Sets those bits of the word of `bit` that are in `mask`; returns how many were clear before. */
export function setWord(bits: Uint32Array, bit: number, mask: number): number {
  const word = bit >>> 5;
  const before = bits[word] ?? 0;
  bits[word] = before | mask;
  return bitCount(mask & ~before);
}

/** Clears [from, to); returns how many were set before. */
export function clearBits(bits: Uint32Array, from: number, to: number): number {
  let changed = 0;
  for (let bit = from; bit < to;) {
    const word = bit >>> 5;
    const mask = maskOf(bit, to);
    const before = bits[word] ?? 0;
    changed += bitCount(mask & before);
    bits[word] = before & ~mask;
    bit = (word + 1) * 32;
  }
  return changed;
}

/** The first bit at or after `from` that is `value`, or the number of bits. */
export function nextBit(bits: Uint32Array, from: number, value: 0 | 1): number {
  const flip = value === 1 ? 0 : 0xffffffff;
  let word = from >>> 5;
  if (word >= bits.length) return bits.length * 32;
  let candidates = ((bits[word] ?? 0) ^ flip) & (0xffffffff << (from & 31));
  while (candidates === 0) {
    word += 1;
    if (word >= bits.length) return bits.length * 32;
    candidates = (bits[word] ?? 0) ^ flip;
  }
  return word * 32 + lowestBit(candidates);
}

/** The bits of the word of `bit` that lie within [bit, to). */
function maskOf(bit: number, to: number): number {
  const first = bit & 31;
  return bitsWithin(first, Math.min(32, first + to - bit));
}
