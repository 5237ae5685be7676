import { assert } from "@osr/base/assert";

import type { RequestFormat, RingPageLayout } from "./trace-format.ts";

/** What a completed request did, by the first letter of its operation. */
export const READ = 0;
export const WRITE = 1;
export const DISCARD = 2;
/** WRITE ZEROES, and whatever else the kernel has no letter for: all that may change sectors counts as a change. */
export const ZEROES = 3;
export type RequestKind = typeof READ | typeof WRITE | typeof DISCARD | typeof ZEROES;

/** Receives completed requests with at least one sector. Called once an event; must not allocate or throw. */
export type RequestSink = {
  /** `eventDevice` is the kernel's dev_t: major × 2^20 + minor. */
  request(eventDevice: number, kind: RequestKind, sector: number, sectorCount: number): void;
};

/** How a page was. Anything but CLEAN means that events are missing. */
export const CLEAN = 0;
export const MISSED = 1;
export const DAMAGED = 2;
export type PageState = typeof CLEAN | typeof MISSED | typeof DAMAGED;

/** Set in the commit word where the kernel overwrote events before this page (RB_MISSED_EVENTS). */
const MISSED_FLAG = 0x80000000;
/** The commit word without its flags, which are the two highest bits. */
const COMMIT_MASK = 0x3fffffff;

const RECORD_LARGE = 0;
const RECORD_PADDING = 29;
const RECORD_TIME_EXTEND = 30;

const LETTER_D = 0x44;
const LETTER_F = 0x46;
const LETTER_R = 0x52;
const LETTER_W = 0x57;

/**
 * Reads the requests out of one page of the kernel's ring buffer: a header, then records that start with a word of
 * 5 bits type or length and 27 bits time (tracefs `events/header_page` and `header_event`). The kernel writes in the byte
 * order of the machine, which is little-endian wherever we run.
 */
export class RingPageReader {
  /** The page; fill it, then call `read`. */
  readonly page: Uint8Array;
  readonly #words: Uint32Array;
  readonly #layout: RingPageLayout;
  readonly #format: RequestFormat;

  constructor(layout: RingPageLayout, format: RequestFormat) {
    assert(layout.pageBytes % 4 === 0, "pages consist of words");
    this.#layout = layout;
    this.#format = format;
    this.page = new Uint8Array(layout.pageBytes);
    this.#words = new Uint32Array(this.page.buffer);
  }

  /** Hands every request of the page to `sink`; what precedes damage is handed on as well. */
  read(sink: RequestSink): PageState {
    const words = this.#words;
    const { commitOffset, dataOffset, pageBytes } = this.#layout;
    const commit = words[commitOffset / 4] ?? 0;
    const end = dataOffset + (commit & COMMIT_MASK);
    if (end > pageBytes || end % 4 !== 0) return DAMAGED;
    const state = commit >= MISSED_FLAG ? MISSED : CLEAN;
    for (let offset = dataOffset; offset < end;) {
      const header = words[offset / 4] ?? 0;
      const type = header % 32;
      if (type >= RECORD_TIME_EXTEND) {
        offset += 8;
        continue;
      }
      // Padding without a time fills the rest of the page.
      if (type === RECORD_PADDING && header === RECORD_PADDING) return state;
      const large = type === RECORD_LARGE || type === RECORD_PADDING;
      const bytes = large ? (words[offset / 4 + 1] ?? 0) : type * 4;
      const next = offset + 4 + bytes;
      if (bytes < 4 || bytes % 4 !== 0 || next > end) return DAMAGED;
      if (type !== RECORD_PADDING) {
        const start = type === RECORD_LARGE ? offset + 8 : offset + 4;
        if (!this.#readRecord(start, next, sink)) return DAMAGED;
      }
      offset = next;
    }
    return state;
  }

  #readRecord(start: number, end: number, sink: RequestSink): boolean {
    const words = this.#words;
    const format = this.#format;
    if (start >= end) return false;
    if (((words[start / 4] ?? 0) & 0xffff) !== format.eventId) return true;
    if (start + format.recordBytes > end) return false;
    const sectorCount = words[(start + format.sectorCountOffset) / 4] ?? 0;
    // Flushes and the flush that follows a FUA write have no sectors.
    if (sectorCount === 0) return true;
    const sectorAt = (start + format.sectorOffset) / 4;
    const sector = (words[sectorAt + 1] ?? 0) * 2 ** 32 + (words[sectorAt] ?? 0);
    const device = words[(start + format.deviceOffset) / 4] ?? 0;
    sink.request(device, this.#kindAt(start + format.operationOffset), sector, sectorCount);
    return true;
  }

  /** A leading F says that the device flushes first (preflush); the operation follows it. */
  #kindAt(offset: number): RequestKind {
    const first = this.page[offset];
    const letter = first === LETTER_F ? this.page[offset + 1] : first;
    if (letter === LETTER_W) return WRITE;
    if (letter === LETTER_D) return DISCARD;
    return letter === LETTER_R ? READ : ZEROES;
  }
}
