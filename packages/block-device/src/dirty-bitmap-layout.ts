/** Granules of one word of the bitmap, and words of one group. */
export const WORD_BITS = 64;
const WORD_BYTES = 8;
/** Of granules of 4 KiB, which are blocks; there are no finer ones. */
export const BLOCK_SHIFT = 3;

/** What a group has in bytes, in this order: see DirtyBitmapLayout. */
export const GROUP_MARKED = 0;
export const GROUP_WHOLES = WORD_BYTES;
export const GROUP_WORDS = 2 * WORD_BYTES;
export const GROUP_BYTES = GROUP_WORDS + WORD_BITS * WORD_BYTES;

/**
 * How the changes of a disk are laid out in memory that the kernel's program and this process share: groups of 4096 granules,
 * so that the program finds all that it marks for a small request in one place. Words of 64 bits:
 * - marked: a bit for each of the group's words, set where the word may have bits, or is whole;
 * - wholes: a bit for each of those words, set where all of its granules changed, whatever is in the word. Large requests set
 *   these, so that the program takes a few hundred steps for one of 4 GiB, the most that a request can have;
 * - 64 words with a bit for each granule that changed.
 */
export type DirtyBitmapLayout = {
  /** A granule has 2^shift sectors of 512 bytes. */
  readonly granuleShift: number;
  readonly groups: number;
};

/** The finest layout that takes at most `bytesMax`, if granules of 4 KiB or some power of two more do. */
export function dirtyBitmapLayout(sectorCount: number, bytesMax: number): DirtyBitmapLayout {
  for (let granuleShift = BLOCK_SHIFT; ; granuleShift++) {
    const layout = layoutWith(sectorCount, granuleShift);
    if (bytesOf(layout) <= bytesMax || layout.groups === 1) return layout;
  }
}

export function layoutWith(sectorCount: number, granuleShift: number): DirtyBitmapLayout {
  const granules = Math.ceil(sectorCount / 2 ** granuleShift);
  return { granuleShift, groups: Math.max(1, Math.ceil(granules / WORD_BITS ** 2)) };
}

export function bytesOf({ groups }: DirtyBitmapLayout): number {
  return groups * GROUP_BYTES;
}
