import { KIB, MIB } from "@osr/base/units";

/** Sequential readers that are told apart: the connections of a multi-connection client, or the files of a guest. */
const STREAMS_MAX = 16;
/** A reader with several requests under way sends them slightly out of order. */
const DISORDER_BYTES = MIB;
const WINDOW_BYTES_FIRST = 128 * KIB;
/**
 * How near a second read has to be for a stream. With DISORDER_BYTES one random read of a hundred in 2 GiB began a stream, and
 * what was read ahead for it held up those after it.
 */
const NEAR_BYTES = WINDOW_BYTES_FIRST;
export const READ_AHEAD_BYTES_DEFAULT = 4 * MIB;

type Stream = { next: number; aheadEnd: number; windowBytes: number; lastUsed: number };
export type ReadAheadRange = { readonly offset: number; readonly bytes: number };

/** Recognises sequential reads and says what will be wanted next. */
export class ReadAhead {
  readonly #windowBytesMax: number;
  readonly #sizeBytes: number;
  readonly #streams: Stream[] = [];
  #tick = 0;

  constructor(options: { readonly sizeBytes: number; readonly windowBytesMax: number }) {
    this.#sizeBytes = options.sizeBytes;
    this.#windowBytesMax = options.windowBytesMax;
  }

  /**
   * Takes note of a read; gives the range to read ahead, if any. The window doubles with every sequential read, and is
   * renewed when half of it has been used, so that the source sees few and long reads.
   */
  note(offset: number, bytes: number): ReadAheadRange | undefined {
    if (this.#windowBytesMax === 0) return undefined;
    const end = offset + bytes;
    this.#tick += 1;
    const stream = this.#find(offset);
    if (stream === undefined) {
      this.#begin(end);
      return undefined;
    }
    stream.lastUsed = this.#tick;
    if (end <= stream.next) return undefined;
    stream.next = end;
    stream.windowBytes = Math.min(stream.windowBytes * 2, this.#windowBytesMax);
    const from = Math.max(stream.aheadEnd, end);
    const to = Math.min(end + stream.windowBytes, this.#sizeBytes);
    if (to - from < Math.min(stream.windowBytes / 2, this.#sizeBytes - from) || to <= from)
      return undefined;
    stream.aheadEnd = to;
    return { offset: from, bytes: to - from };
  }

  #find(offset: number): Stream | undefined {
    for (const stream of this.#streams) {
      const reach = stream.windowBytes > WINDOW_BYTES_FIRST ? DISORDER_BYTES : NEAR_BYTES;
      if (Math.abs(offset - stream.next) <= reach) return stream;
    }
    return undefined;
  }

  #begin(next: number): void {
    const fresh = { next, aheadEnd: next, windowBytes: WINDOW_BYTES_FIRST, lastUsed: this.#tick };
    if (this.#streams.length < STREAMS_MAX) {
      this.#streams.push(fresh);
      return;
    }
    let oldest = fresh;
    for (const stream of this.#streams) if (stream.lastUsed < oldest.lastUsed) oldest = stream;
    Object.assign(oldest, fresh);
  }
}
