import { assert, must } from "@osr/base/assert";
import { bitCount, lowestBit } from "@osr/base/bits";

import {
  type Coarsenable,
  type DirtyMemory,
  GRANULES,
  type GranuleLevel,
  type PlacedBitmap,
  PAGE_BLOCKS,
} from "./dirty-memory.ts";
import { bitAt, clearBits, nextBit, setBits, setWord } from "./bitmap.ts";

type Page = {
  level: GranuleLevel;
  bits: Uint32Array;
  bitmap: PlacedBitmap;
  /** Bits that are set. */
  granules: number;
  /** Blocks that they stand for, on the disk. */
  blocks: number;
};

/** Words of a table. Those of pages with a bitmap: its place and level. */
const NONE_WORD = 0;
const ALL_WORD = 0xffffffff;
const LEVELS = 4;

/** Pages of the set of a disk. */
export function pagesOf(blockCount: number): number {
  return Math.ceil(blockCount / PAGE_BLOCKS);
}

function wordOf({ place }: PlacedBitmap, level: GranuleLevel): number {
  return (place + 1) * LEVELS + level;
}

/**
 * Which blocks of 4 KiB of a disk are dirty. A bitmap in pages of 1 GiB: a page without dirty blocks, and one that is all
 * dirty, hold no memory. Where `DirtyMemory` runs out, pages coarsen: then the set says more than was added, never less.
 *
 * Where the set is kept, a table says where each page is. A page enters it when its bits are there, and its memory is given
 * back after it has left it, so that whoever reads the table after a kill finds all that was dirty before or after the call.
 *
 * Block numbers reach 2^32, so they are only divided; bit operations are for places within a page.
 */
export class DirtySet implements Coarsenable {
  readonly blockCount: number;
  readonly isLive: boolean;
  /** Start of the run that `findRun` found last. */
  runStart = 0;
  readonly #memory: DirtyMemory;
  readonly #pages: (Page | "all" | undefined)[];
  readonly #table: Uint32Array;
  #blocks = 0;

  /** `table`: a word for each page; what it holds is overwritten, see `adopt`. */
  constructor(
    blockCount: number,
    memory: DirtyMemory,
    options: { readonly isLive: boolean; readonly table?: Uint32Array | undefined },
  ) {
    this.blockCount = blockCount;
    this.isLive = options.isLive;
    this.#memory = memory;
    this.#pages = Array.from({ length: pagesOf(blockCount) });
    this.#table = options.table ?? new Uint32Array(this.#pages.length);
    memory.add(this);
  }

  /** The set that an earlier process left in `table`. Undefined where it makes no sense. */
  static adopt(
    blockCount: number,
    memory: DirtyMemory,
    options: { readonly isLive: boolean; readonly table: Uint32Array },
  ): DirtySet | undefined {
    const set = new DirtySet(blockCount, memory, options);
    for (const [index, word] of options.table.entries())
      if (!set.#adopt(index, word)) return undefined;
    return set;
  }

  /** Dirty blocks. Where the end of the disk cuts a coarse granule, it counts what is on the disk. */
  get blocks(): number {
    return this.#blocks;
  }

  has(block: number): boolean {
    const index = Math.floor(block / PAGE_BLOCKS);
    const page = this.#pages[index];
    if (page === undefined || page === "all") return page === "all" && block < this.blockCount;
    return bitAt(page.bits, Math.floor((block - index * PAGE_BLOCKS) / GRANULES[page.level]));
  }

  /** Adds `count` blocks from `start`; what lies beyond the end of the disk is dropped. */
  add(start: number, count: number): void {
    const end = Math.min(start + count, this.blockCount);
    for (let at = start; at < end;) {
      const index = Math.floor(at / PAGE_BLOCKS);
      const pageStart = index * PAGE_BLOCKS;
      const pageEnd = Math.min(pageStart + PAGE_BLOCKS, end);
      this.#addToPage(index, at - pageStart, pageEnd - pageStart);
      at = pageEnd;
    }
  }

  /** Adds, of the 32 blocks from `start` on, a multiple of 32, those whose bits are set; beyond the end as `add`. */
  addBits(start: number, bits: number): void {
    const index = Math.floor(start / PAGE_BLOCKS);
    const page = this.#pages[index];
    if (page === "all" || bits === 0) return;
    if (page?.level === 0 && start + 32 <= this.blockCount) {
      const added = setWord(page.bits, start - index * PAGE_BLOCKS, bits);
      if (added > 0) this.#recount(index, page, page.granules + added);
      return;
    }
    for (let rest = bits; rest !== 0; rest &= rest - 1) this.add(start + lowestBit(rest), 1);
  }

  addAll(): void {
    for (let index = 0; index < this.#pages.length; index++) this.#replace(index, "all");
  }

  /** Adds all of `other`, a set of the same disk. */
  addSet(other: DirtySet): void {
    assert(other.blockCount === this.blockCount, "sets of one disk");
    for (let index = 0; index < this.#pages.length; index++) {
      const page = other.#pages[index];
      if (page === "all") this.#replace(index, "all");
      else if (page !== undefined) this.#addPage(index, page);
    }
  }

  /**
   * Finds the first run of dirty blocks that ends after `from` and puts its start into `runStart`. Returns its length, at
   * most `countMax`; 0 where there is none, or where its first granule is longer than `countMax` (at most 256 blocks).
   * Coarse granules are never cut, but by the end of the disk. A run ends at a page's end although the next may go on.
   */
  findRun(from: number, countMax: number): number {
    if (from >= this.blockCount) return 0;
    for (let index = Math.floor(from / PAGE_BLOCKS); index < this.#pages.length; index++) {
      const page = this.#pages[index];
      if (page === undefined) continue;
      const pageStart = index * PAGE_BLOCKS;
      const first = Math.max(0, from - pageStart);
      if (page === "all") {
        this.runStart = pageStart + first;
        return Math.min(countMax, this.#pageBlocks(index) - first);
      }
      const granule = GRANULES[page.level];
      const bit = nextBit(page.bits, Math.floor(first / granule), 1);
      if (bit === page.bits.length * 32) continue;
      // Within a coarse granule the run starts before `from`: the page was coarsened behind the reader's back.
      this.runStart = pageStart + bit * granule;
      const bitsMax = Math.floor(countMax / granule);
      const end = Math.min(nextBit(page.bits, bit, 0), bit + bitsMax);
      const blockEnd = Math.min(end * granule, this.#pageBlocks(index));
      return end === bit ? 0 : blockEnd - bit * granule;
    }
    return 0;
  }

  /** Removes blocks; coarse granules that are only partly within stay dirty. */
  remove(start: number, count: number): void {
    const end = Math.min(start + count, this.blockCount);
    for (let at = start; at < end;) {
      const index = Math.floor(at / PAGE_BLOCKS);
      const pageStart = index * PAGE_BLOCKS;
      const pageEnd = Math.min(pageStart + PAGE_BLOCKS, end);
      this.#removeFromPage(index, at - pageStart, pageEnd - pageStart);
      at = pageEnd;
    }
  }

  clear(): void {
    for (let index = 0; index < this.#pages.length; index++) this.#replace(index, undefined);
  }

  /** Gives its memory back; the set is not used any more. */
  dispose(): void {
    this.clear();
    this.#memory.remove(this);
  }

  coarsen(level: GranuleLevel, enough: () => boolean): void {
    for (let index = 0; index < this.#pages.length && !enough(); index++) {
      const page = this.#pages[index];
      if (page !== undefined && page !== "all" && page.level < level)
        this.#coarsenPage(index, page, level);
    }
  }

  #pageBlocks(index: number): number {
    return Math.min(PAGE_BLOCKS, this.blockCount - index * PAGE_BLOCKS);
  }

  #addToPage(index: number, from: number, to: number): void {
    const page = this.#pages[index];
    if (page === "all") return;
    if (page === undefined && from === 0 && to === this.#pageBlocks(index))
      return this.#replace(index, "all");
    const bitmap = page ?? this.#newPage(index);
    const granule = GRANULES[bitmap.level];
    const added = setBits(bitmap.bits, Math.floor(from / granule), Math.ceil(to / granule));
    if (page === undefined) this.#publish(index);
    if (added > 0) this.#recount(index, bitmap, bitmap.granules + added);
  }

  #removeFromPage(index: number, from: number, to: number): void {
    const page = this.#pages[index];
    if (page === undefined) return;
    const blocks = this.#pageBlocks(index);
    if (page === "all" && from === 0 && to === blocks) return this.#replace(index, undefined);
    const bitmap = page === "all" ? this.#splitAll(index) : page;
    const granule = GRANULES[bitmap.level];
    const endBit = to === blocks ? Math.ceil(to / granule) : Math.floor(to / granule);
    const removed = clearBits(bitmap.bits, Math.ceil(from / granule), endBit);
    this.#recount(index, bitmap, bitmap.granules - removed);
  }

  #addPage(index: number, other: Page): void {
    const page = this.#pages[index];
    if (page === "all") return;
    const mine = page ?? this.#newPage(index);
    if (page === undefined) this.#publish(index);
    if (mine.level === other.level) {
      let granules = 0;
      for (let word = 0; word < mine.bits.length; word++) {
        const merged = must(mine.bits[word], "word") | must(other.bits[word], "word");
        mine.bits[word] = merged;
        granules += bitCount(merged);
      }
      return this.#recount(index, mine, granules);
    }
    const start = index * PAGE_BLOCKS;
    const granule = GRANULES[other.level];
    const bits = other.bits.length * 32;
    for (let bit = nextBit(other.bits, 0, 1); bit < bits;) {
      const end = nextBit(other.bits, bit, 0);
      this.add(start + bit * granule, (end - bit) * granule);
      bit = nextBit(other.bits, end, 1);
    }
  }

  /** An empty bitmap for a page that has none, as fine as memory allows. */
  #newPage(index: number): Page {
    const level = this.#memory.levelFor(this);
    const bitmap = this.#memory.take(level);
    const page: Page = { level, bits: bitmap.bits, bitmap, granules: 0, blocks: 0 };
    this.#pages[index] = page;
    return page;
  }

  #splitAll(index: number): Page {
    const blocks = this.#pageBlocks(index);
    // Making room may coarsen other pages of this set, but not this one: it has no bitmap yet.
    const page = this.#newPage(index);
    page.granules = setBits(page.bits, 0, Math.ceil(blocks / GRANULES[page.level]));
    page.blocks = blocks;
    this.#publish(index);
    return page;
  }

  #coarsenPage(index: number, page: Page, level: GranuleLevel): void {
    const factor = GRANULES[level] / GRANULES[page.level];
    const { bits: fine, bitmap: fineBitmap, level: fineLevel } = page;
    const coarse = this.#memory.take(level);
    let granules = 0;
    for (let bit = nextBit(fine, 0, 1); bit < fine.length * 32;) {
      const granule = Math.floor(bit / factor);
      granules += setBits(coarse.bits, granule, granule + 1);
      bit = nextBit(fine, (granule + 1) * factor, 1);
    }
    page.bits = coarse.bits;
    page.bitmap = coarse;
    page.level = level;
    this.#publish(index);
    this.#memory.give(fineBitmap, fineLevel);
    this.#recount(index, page, granules);
  }

  #recount(index: number, page: Page, granules: number): void {
    const pageBlocks = this.#pageBlocks(index);
    const granule = GRANULES[page.level];
    const full = Math.ceil(pageBlocks / granule);
    const overhang = bitAt(page.bits, full - 1) ? full * granule - pageBlocks : 0;
    const blocks = granules * granule - overhang;
    this.#blocks += blocks - page.blocks;
    page.blocks = blocks;
    page.granules = granules;
    if (granules === 0) this.#replace(index, undefined);
    else if (granules === full) this.#replace(index, "all");
  }

  #replace(index: number, next: "all" | undefined): void {
    const page = this.#pages[index];
    const pageBlocks = this.#pageBlocks(index);
    this.#pages[index] = next;
    this.#publish(index);
    if (page === "all") this.#blocks -= pageBlocks;
    else if (page !== undefined) {
      this.#blocks -= page.blocks;
      this.#memory.give(page.bitmap, page.level);
    }
    if (next === "all") this.#blocks += pageBlocks;
  }

  #publish(index: number): void {
    const page = this.#pages[index];
    this.#table[index] =
      page === undefined ? NONE_WORD : page === "all" ? ALL_WORD : wordOf(page.bitmap, page.level);
  }

  #adopt(index: number, word: number): boolean {
    if (word === NONE_WORD) return true;
    if (word === ALL_WORD) {
      this.#replace(index, "all");
      return true;
    }
    const level = (word % LEVELS) as GranuleLevel;
    const place = Math.floor(word / LEVELS) - 1;
    const bitmap = level in GRANULES ? this.#memory.adopt(place, level) : undefined;
    if (bitmap === undefined) return false;
    const page: Page = { level, bits: bitmap.bits, bitmap, granules: 0, blocks: 0 };
    this.#pages[index] = page;
    let granules = 0;
    for (const bits of page.bits) granules += bitCount(bits);
    this.#recount(index, page, granules);
    return true;
  }
}
