import { must } from "@osr/base/assert";

import {
  type BitmapSource,
  type GranuleLevel,
  type PlacedBitmap,
  pageBytes,
} from "./dirty-memory.ts";
import type { KeptMemory } from "./kept-memory.ts";

/** Places are counted in units of the smallest bitmap. */
const UNIT_BYTES = pageBytes(2);
const BLOCK_BYTES = pageBytes(0);
const BLOCK_UNITS = BLOCK_BYTES / UNIT_BYTES;

/** Pieces of one block of 32 KiB: all have the size of one level. */
type Block = { readonly level: GranuleLevel; readonly free: number[]; used: number };

/**
 * Hands out bitmaps within kept memory: blocks of 32 KiB, cut into smaller pieces where need be. What is in use is known
 * from the tables of the sets, so nothing about it is kept itself.
 */
export class BitmapArena implements BitmapSource {
  readonly #memory: KeptMemory;
  readonly #offset: number;
  readonly #blocks: (Block | undefined)[] = [];
  readonly #blocksMax: number;
  readonly #free: number[] = [];
  readonly #partly: readonly [Set<number>, Set<number>, Set<number>] = [
    new Set(),
    new Set(),
    new Set(),
  ];
  readonly #onFull: () => void;

  /** `onFull`: a bitmap had to be put elsewhere, and is not kept. */
  constructor(
    memory: KeptMemory,
    place: { readonly offset: number; readonly bytes: number },
    onFull: () => void,
  ) {
    this.#memory = memory;
    this.#offset = place.offset;
    this.#blocksMax = Math.floor(place.bytes / BLOCK_BYTES);
    this.#onFull = onFull;
  }

  take(level: GranuleLevel): PlacedBitmap {
    const [known] = this.#partly[level];
    const block = known ?? this.#newBlock(level);
    if (block === undefined) {
      this.#onFull();
      return { bits: new Uint32Array(pageBytes(level) / 4), place: -1 };
    }
    const pieces = must(this.#blocks[block], "block");
    const piece = must(pieces.free.pop(), "piece");
    pieces.used += 1;
    if (pieces.free.length === 0) this.#partly[level].delete(block);
    const place = block * BLOCK_UNITS + (piece * pageBytes(level)) / UNIT_BYTES;
    return { bits: this.#view(place, level), place };
  }

  give({ place }: PlacedBitmap, level: GranuleLevel): void {
    if (place < 0) return;
    const block = Math.floor(place / BLOCK_UNITS);
    const pieces = must(this.#blocks[block], "block");
    pieces.used -= 1;
    pieces.free.push(((place % BLOCK_UNITS) * UNIT_BYTES) / pageBytes(level));
    this.#partly[level].add(block);
    if (pieces.used > 0) return;
    this.#partly[level].delete(block);
    this.#blocks[block] = undefined;
    this.#free.push(block);
  }

  adopt(place: number, level: GranuleLevel): PlacedBitmap | undefined {
    const block = Math.floor(place / BLOCK_UNITS);
    const piece = ((place % BLOCK_UNITS) * UNIT_BYTES) / pageBytes(level);
    if (block >= this.#blocksMax || !Number.isInteger(piece)) return undefined;
    while (this.#blocks.length <= block) {
      this.#free.push(this.#blocks.length);
      this.#blocks.push(undefined);
    }
    if (this.#blocks[block] === undefined) {
      this.#free.splice(this.#free.indexOf(block), 1);
      this.#cut(block, level);
    }
    const pieces = must(this.#blocks[block], "block");
    const index = pieces.free.indexOf(piece);
    if (pieces.level !== level || index < 0) return undefined;
    pieces.free.splice(index, 1);
    pieces.used += 1;
    if (pieces.free.length === 0) this.#partly[level].delete(block);
    return { bits: this.#view(place, level), place };
  }

  #view(place: number, level: GranuleLevel): Uint32Array {
    const offset = this.#offset + place * UNIT_BYTES;
    return new Uint32Array(this.#memory.buffer, offset, pageBytes(level) / 4);
  }

  #newBlock(level: GranuleLevel): number | undefined {
    let block = this.#free.pop();
    if (block === undefined && this.#blocks.length < this.#blocksMax) {
      block = this.#blocks.length;
      const offset = this.#offset + block * BLOCK_BYTES;
      if (!this.#memory.reserve(offset, BLOCK_BYTES)) return undefined;
      this.#blocks.push(undefined);
    }
    if (block !== undefined) this.#cut(block, level);
    return block;
  }

  #cut(block: number, level: GranuleLevel): void {
    const count = BLOCK_BYTES / pageBytes(level);
    const free = Array.from({ length: count }, (_, index) => count - 1 - index);
    this.#blocks[block] = { level, free, used: 0 };
    this.#partly[level].add(block);
  }
}
