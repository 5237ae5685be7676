import { BLOCK_BYTES } from "@osr/base/block-range";

/** Part of a batch: `count` blocks from `block`, whose content starts at `sourceOffset` of its body, in bytes. */
export type Piece = {
  readonly block: number;
  readonly count: number;
  /** ZERO_SOURCE where the blocks are zero. */
  readonly sourceOffset: number;
};

export const ZERO_SOURCE = 0xffff_ffff;

/**
 * Sorts the pieces of a batch by block. Where pieces overlap, the later one of the list wins, as it was read later;
 * the earlier one is cut. The usual case, no overlap, costs one sort.
 */
export function newestPieces(pieces: readonly Piece[]): readonly Piece[] {
  const sorted = pieces
    .map((piece, order) => ({ ...piece, order }))
    .toSorted((a, b) => a.block - b.block);
  const overlaps = sorted.some((piece, index) => {
    const next = sorted[index + 1];
    return next !== undefined && piece.block + piece.count > next.block;
  });
  return overlaps ? resolveOverlaps(sorted) : sorted;
}

type Ordered = Piece & { readonly order: number };

/**
 * Sweeps over the boundaries of all pieces and gives each stretch between two of them to the newest piece that covers
 * it. The pieces under way are in a heap by age; those that have ended leave it when they come to its top.
 */
function resolveOverlaps(sorted: readonly Ordered[]): readonly Piece[] {
  const boundaries = sorted.flatMap(({ block, count }) => [block, block + count]);
  const stops = [...new Set(boundaries)].toSorted((a, b) => a - b);
  const underWay = new NewestHeap();
  const result: Piece[] = [];
  let next = 0;
  for (const [index, block] of stops.entries()) {
    for (let piece = sorted[next]; piece?.block === block; piece = sorted[++next])
      underWay.push(piece);
    const newest = underWay.newestAt(block);
    const end = stops[index + 1];
    if (newest !== undefined && end !== undefined) append(result, newest, block, end - block);
  }
  return result;
}

function append(result: Piece[], from: Ordered, block: number, count: number): void {
  const sourceOffset =
    from.sourceOffset === ZERO_SOURCE
      ? ZERO_SOURCE
      : from.sourceOffset + (block - from.block) * BLOCK_BYTES;
  const last = result.at(-1);
  const continues =
    last !== undefined &&
    last.block + last.count === block &&
    (sourceOffset === ZERO_SOURCE
      ? last.sourceOffset === ZERO_SOURCE
      : last.sourceOffset + last.count * BLOCK_BYTES === sourceOffset);
  if (continues) result[result.length - 1] = { ...last, count: last.count + count };
  else result.push({ block, count, sourceOffset });
}

/** Binary heap with the newest piece at its top. */
class NewestHeap {
  readonly #items: Ordered[] = [];

  push(piece: Ordered): void {
    const items = this.#items;
    let at = items.push(piece) - 1;
    while (at > 0) {
      const parent = Math.floor((at - 1) / 2);
      if (items[parent]!.order >= piece.order) break;
      items[at] = items[parent]!;
      at = parent;
    }
    items[at] = piece;
  }

  /** The newest piece that covers `block`; drops those that end before it. */
  newestAt(block: number): Ordered | undefined {
    for (let top = this.#items[0]; top !== undefined; top = this.#items[0]) {
      if (top.block + top.count > block) return top;
      this.#pop();
    }
    return undefined;
  }

  #pop(): void {
    const items = this.#items;
    const last = items.pop();
    if (last === undefined || items.length === 0) return;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= items.length) break;
      if (child + 1 < items.length && items[child + 1]!.order > items[child]!.order) child += 1;
      if (items[child]!.order <= last.order) break;
      items[at] = items[child]!;
      at = child;
    }
    items[at] = last;
  }
}
