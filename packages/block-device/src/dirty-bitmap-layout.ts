/** Granules of one word of the bitmap. */
export const WORD_BITS = 64;
const WORD_BYTES = 8;
/** 4 KiB. */
const GRANULE_SHIFT_MIN = 3;

/**
 * How the changes of a disk are laid out in memory that the kernel's program and this process share, in words of 64 bits:
 * - a bit for each granule that changed;
 * - groups: a bit for each of those words, set where the word may have bits;
 * - wholes: a bit for each of those words, set where all of its granules changed, whatever is in the word. Large requests set
 *   these, so that the program takes a few hundred steps for one of 4 GiB, the most that a request can have.
 */
export type DirtyBitmapLayout = {
  /** A granule has 2^shift sectors of 512 bytes. */
  readonly granuleShift: number;
  readonly words: number;
  readonly groupWords: number;
  readonly entries: number;
};

/** The finest layout that takes at most `bytesMax`, if granules of 4 KiB or some power of two more do. */
export function dirtyBitmapLayout(sectorCount: number, bytesMax: number): DirtyBitmapLayout {
  for (let granuleShift = GRANULE_SHIFT_MIN; ; granuleShift++) {
    const layout = layoutWith(sectorCount, granuleShift);
    if (bytesOf(layout) <= bytesMax || layout.words === 1) return layout;
  }
}

export function layoutWith(sectorCount: number, granuleShift: number): DirtyBitmapLayout {
  const granules = Math.ceil(sectorCount / 2 ** granuleShift);
  const words = Math.max(1, Math.ceil(granules / WORD_BITS));
  const groupWords = Math.ceil(words / WORD_BITS);
  return { granuleShift, words, groupWords, entries: words + 2 * groupWords };
}

export function bytesOf({ entries }: DirtyBitmapLayout): number {
  return entries * WORD_BYTES;
}
