import { lowestBit } from "@osr/base/bits";

import {
  type DirtyBitmapLayout,
  GROUP_BYTES,
  GROUP_MARKED,
  GROUP_WHOLES,
  GROUP_WORDS,
  WORD_BITS,
} from "./dirty-bitmap-layout.ts";

const HALF_BITS = 32;
const ALL = -1;
const HALF_BYTES = 4;
const HALVES_OF_WORD = WORD_BITS / HALF_BITS;
/** Within a group, in halves of words. */
const MARKED = GROUP_MARKED / HALF_BYTES;
const WHOLES = GROUP_WHOLES / HALF_BYTES;
const WORDS = GROUP_WORDS / HALF_BYTES;
const GROUP_HALVES = GROUP_BYTES / HALF_BYTES;

/**
 * Receives which of the 32 granules from `granule` on changed, as bits. Words and not runs: of a disk that is written at random,
 * a word has many runs. Must not allocate or throw.
 */
export type GranuleSink = (granule: number, bits: number) => void;

/**
 * Takes changes out of memory that the kernel's program writes to meanwhile, see DirtyBitmapLayout. Words are read as two
 * halves: their bits lie one behind the other, as the machine is little-endian wherever we run.
 *
 * A granule is handed on before its bit is cleared: whoever is killed in between finds it again. What is set after its word
 * was read stays set. The mark of a word is cleared before the word is read, so that one set later brings it up again;
 * a successor of somebody who was killed has to look at all words, see `lookAtAll`.
 */
export class DirtyBitmap {
  readonly #halves: Int32Array;
  readonly #groups: number;

  constructor(buffer: ArrayBuffer, { groups }: DirtyBitmapLayout) {
    this.#halves = new Int32Array(buffer, 0, groups * GROUP_HALVES);
    this.#groups = groups;
  }

  /** The next drain reads every word. */
  lookAtAll(): void {
    for (let group = 0; group < this.#groups; group++)
      for (let half = 0; half < HALVES_OF_WORD; half++)
        Atomics.store(this.#halves, group * GROUP_HALVES + MARKED + half, -1);
  }

  /** Hands on what was set before this call, and maybe some that is set meanwhile, in order, and clears it. */
  drain(sink: GranuleSink): void {
    for (let group = 0; group < this.#groups; group++)
      for (let half = 0; half < HALVES_OF_WORD; half++)
        if (Atomics.load(this.#halves, group * GROUP_HALVES + MARKED + half) !== 0)
          this.#drainWords(group, half, sink);
  }

  /** Of a group, those words that a half of its marks is about. */
  #drainWords(group: number, half: number, sink: GranuleSink): void {
    const halves = this.#halves;
    const at = group * GROUP_HALVES;
    let marked = Atomics.exchange(halves, at + MARKED + half, 0);
    while (marked !== 0) {
      const bit = lowestBit(marked);
      marked &= marked - 1;
      const word = half * HALF_BITS + bit;
      const granule = (group * WORD_BITS + word) * WORD_BITS;
      if (((Atomics.load(halves, at + WHOLES + half) >>> bit) & 1) === 1) {
        sink(granule, ALL);
        sink(granule + HALF_BITS, ALL);
        Atomics.and(halves, at + WHOLES + half, ~(1 << bit));
      }
      const wordAt = at + WORDS + word * HALVES_OF_WORD;
      this.#drainHalf(wordAt, granule, sink);
      this.#drainHalf(wordAt + 1, granule + HALF_BITS, sink);
    }
  }

  #drainHalf(at: number, granule: number, sink: GranuleSink): void {
    const seen = Atomics.load(this.#halves, at);
    if (seen === 0) return;
    sink(granule, seen);
    Atomics.and(this.#halves, at, ~seen);
  }
}
