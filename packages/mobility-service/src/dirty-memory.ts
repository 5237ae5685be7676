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

/** The one budget of all dirty sets. Exact pages are kept for reuse, so that it also bounds what the process holds. */
export class DirtyMemory {
  readonly #bytesMax: number;
  readonly #sets = new Set<Coarsenable>();
  readonly #spare: Uint32Array[] = [];
  #usedBytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** Bytes of pages in use; spare ones come on top, up to the limit. */
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
  take(level: GranuleLevel): Uint32Array {
    this.#usedBytes += pageBytes(level);
    const spare = level === 0 ? this.#spare.pop() : undefined;
    return spare === undefined ? new Uint32Array(pageBytes(level) / 4) : spare.fill(0);
  }

  give(page: Uint32Array): void {
    this.#usedBytes -= page.byteLength;
    assert(this.#usedBytes >= 0, "a page was given back twice");
    const heldBytes = this.#usedBytes + (this.#spare.length + 1) * pageBytes(0);
    if (page.byteLength === pageBytes(0) && heldBytes <= this.#bytesMax) this.#spare.push(page);
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
