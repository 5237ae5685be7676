import { type DirtyBitmapLayout, WORD_BITS } from "./dirty-bitmap-layout.ts";

const HALF_BITS = 32;

/** Receives granules that changed, as a run. Must not allocate or throw. */
export type GranuleSink = (granule: number, count: number) => void;

/**
 * Takes changes out of memory that the kernel's program writes to meanwhile, see DirtyBitmapLayout. Words are read as two
 * halves: their bits lie one behind the other, as the machine is little-endian wherever we run.
 *
 * A granule is handed on before its bit is cleared: whoever is killed in between finds it again. What is set after its word
 * was read stays set. The bit of a group is cleared before its words are read, so that one set later brings them up again;
 * a successor of somebody who was killed has to look at all words, see `lookAtAll`.
 */
export class DirtyBitmap {
  readonly #words: Int32Array;
  readonly #groups: Int32Array;
  readonly #wholes: Int32Array;

  constructor(buffer: ArrayBuffer, { words, groupWords }: DirtyBitmapLayout) {
    const halves = new Int32Array(buffer);
    this.#words = halves.subarray(0, 2 * words);
    this.#groups = halves.subarray(2 * words, 2 * (words + groupWords));
    this.#wholes = halves.subarray(2 * (words + groupWords), 2 * (words + 2 * groupWords));
  }

  /** The next drain reads every word. */
  lookAtAll(): void {
    for (let group = 0; group < this.#groups.length; group++)
      Atomics.store(this.#groups, group, -1);
  }

  /** Hands on what was set before this call, and maybe some that is set meanwhile, in order, and clears it. */
  drain(sink: GranuleSink): void {
    const groups = this.#groups;
    for (let group = 0; group < groups.length; group++)
      if (Atomics.load(groups, group) !== 0) this.#drainGroup(group, sink);
  }

  #drainGroup(group: number, sink: GranuleSink): void {
    let words = Atomics.exchange(this.#groups, group, 0);
    while (words !== 0) {
      const bit = lowestBit(words);
      words &= words - 1;
      const half = (group * HALF_BITS + bit) * 2;
      // Beyond the last word, where all are looked at.
      if (half >= this.#words.length) return;
      if (((Atomics.load(this.#wholes, group) >>> bit) & 1) === 1) {
        sink(half * HALF_BITS, WORD_BITS);
        Atomics.and(this.#wholes, group, ~(1 << bit));
      }
      this.#drainHalf(half, sink);
      this.#drainHalf(half + 1, sink);
    }
  }

  #drainHalf(half: number, sink: GranuleSink): void {
    const seen = Atomics.load(this.#words, half);
    if (seen === 0) return;
    for (let bits = seen; bits !== 0;) {
      const start = lowestBit(bits);
      const rest = ~(bits >>> start);
      const end = rest === 0 ? HALF_BITS : start + lowestBit(rest);
      sink(half * HALF_BITS + start, end - start);
      bits = end === HALF_BITS ? 0 : bits & (-1 << end);
    }
    Atomics.and(this.#words, half, ~seen);
  }
}

function lowestBit(bits: number): number {
  return HALF_BITS - 1 - Math.clz32(bits & -bits);
}
