import { assert } from "@osr/base/assert";
import { KIB } from "@osr/base/units";

/** Blocks of one page of a dirty set: 1 GiB of disk. */
export const PAGE_BLOCKS = 262_144;

/** Blocks of 4 KiB per bit: 4 KiB, 64 KiB, 1 MiB. A page starts exact and only ever coarsens. */
export const GRANULES = [1, 16, 256] as const;
export type GranuleLevel = 0 | 1 | 2;

/** Bytes of a page at each level: 32 KiB, 2 KiB, 128 bytes. */
export function pageBytes(level: GranuleLevel): number {
  return PAGE_BLOCKS / GRANULES[level] / 8;
}

/** A set that can give memory back. */
export interface Coarsenable {
  /** Live sets coarsen last: what they lose in precision is sent again in every round. */
  readonly isLive: boolean;
  /** Coarsens its pages of a finer level to `level` until `enough`. */
  coarsen(level: GranuleLevel, enough: () => boolean): void;
}

/** After coarsening this much is free, so that not every new page starts another sweep. */
const SLACK_BYTES = 512 * KIB;

/** Where the bitmaps of pages are. */
export interface BitmapSource {
  /** A bitmap with whatever its last user left in it. */
  take(level: GranuleLevel): PlacedBitmap;
  give(bitmap: PlacedBitmap, level: GranuleLevel): void;
  /** A bitmap that an earlier process left there; undefined where there is none. */
  adopt(place: number, level: GranuleLevel): PlacedBitmap | undefined;
}

/** A bitmap and its place in kept memory; -1 where it is not in it. */
export type PlacedBitmap = { readonly bits: Uint32Array; readonly place: number };

/** The one budget of all dirty sets. */
export class DirtyMemory {
  readonly #bytesMax: number;
  readonly #source: BitmapSource;
  readonly #sets = new Set<Coarsenable>();
  #usedBytes = 0;

  constructor(bytesMax: number, source: BitmapSource = new HeapBitmaps(bytesMax)) {
    this.#bytesMax = bytesMax;
    this.#source = source;
  }

  /** Bytes of pages in use. */
  get usedBytes(): number {
    return this.#usedBytes;
  }

  add(set: Coarsenable): void {
    this.#sets.add(set);
  }

  remove(set: Coarsenable): void {
    this.#sets.delete(set);
  }

  /**
   * The finest level at which there is room for one more page of `set`, after coarsening others where needed. Interval sets
   * never coarsen the live set. The coarsest always fits: 128 bytes per GiB.
   */
  levelFor(set: Coarsenable): GranuleLevel {
    for (const level of [0, 1] as const) {
      if (!this.#fits(pageBytes(level))) this.#makeRoom(pageBytes(level), set);
      if (this.#fits(pageBytes(level))) return level;
    }
    return 2;
  }

  /** A page of zeros. */
  take(level: GranuleLevel): PlacedBitmap {
    this.#usedBytes += pageBytes(level);
    const bitmap = this.#source.take(level);
    bitmap.bits.fill(0);
    return bitmap;
  }

  /** A page that an earlier process left; undefined where there is none at that place. */
  adopt(place: number, level: GranuleLevel): PlacedBitmap | undefined {
    const bitmap = this.#source.adopt(place, level);
    if (bitmap !== undefined) this.#usedBytes += pageBytes(level);
    return bitmap;
  }

  give(bitmap: PlacedBitmap, level: GranuleLevel): void {
    this.#usedBytes -= pageBytes(level);
    assert(this.#usedBytes >= 0, "a page was given back twice");
    this.#source.give(bitmap, level);
  }

  #fits(bytes: number): boolean {
    return this.#usedBytes + bytes <= this.#bytesMax;
  }

  #makeRoom(bytes: number, taker: Coarsenable): void {
    const slack = Math.min(SLACK_BYTES, this.#bytesMax / 4);
    const enough = (): boolean => this.#usedBytes + bytes + slack <= this.#bytesMax;
    for (const isLive of taker.isLive ? [false, true] : [false])
      for (const level of [1, 2] as const)
        for (const set of this.#sets)
          if (set.isLive === isLive && !enough()) set.coarsen(level, enough);
  }
}

/** Bitmaps of this process alone. Exact ones are used again, at most as many as the budget has room for. */
class HeapBitmaps implements BitmapSource {
  readonly #spareMax: number;
  readonly #spare: PlacedBitmap[] = [];

  constructor(bytesMax: number) {
    this.#spareMax = bytesMax / pageBytes(0);
  }

  take(level: GranuleLevel): PlacedBitmap {
    const spare = level === 0 ? this.#spare.pop() : undefined;
    return spare ?? { bits: new Uint32Array(pageBytes(level) / 4), place: -1 };
  }

  give(bitmap: PlacedBitmap, level: GranuleLevel): void {
    if (level === 0 && this.#spare.length < this.#spareMax) this.#spare.push(bitmap);
  }

  adopt(): undefined {
    return undefined;
  }
}
