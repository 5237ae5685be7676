/** A shard of an index covers this many blocks (1 GiB). No run crosses a shard boundary. */
export const SHARD_BLOCKS = 262_144;

/** Where a frame is in its object. */
export type FramePlace = {
  readonly frameNo: number;
  /** From the start of the object; a multiple of 16. */
  readonly offset: number;
  readonly cipherBytes: number;
};

const COLUMNS = 7;
/** Bytes of memory for each run. */
const RUN_TABLE_ROW_BYTES = COLUMNS * 4;
const ROWS_FIRST = 64;

/**
 * Runs of blocks, in columns: 28 bytes each. A run says that blocks [start, start + count) are in a frame from the
 * block `offsetInFrame` on, or, where `cipherBytes` is 0, that they are zero.
 */
export class RunTable {
  length = 0;
  starts: Uint32Array;
  counts: Uint32Array;
  offsetsInFrame: Uint32Array;
  /** Divided by 16. */
  frameOffsets: Uint32Array;
  cipherBytes: Uint32Array;
  frameNos: Uint32Array;
  /** Which of several segments holds the frame: a number that the owner of the table gives a meaning. */
  sources: Uint32Array;

  constructor(rows: number = ROWS_FIRST) {
    this.starts = new Uint32Array(rows);
    this.counts = new Uint32Array(rows);
    this.offsetsInFrame = new Uint32Array(rows);
    this.frameOffsets = new Uint32Array(rows);
    this.cipherBytes = new Uint32Array(rows);
    this.frameNos = new Uint32Array(rows);
    this.sources = new Uint32Array(rows);
  }

  /** Memory of the columns. */
  get sizeBytes(): number {
    return this.starts.length * RUN_TABLE_ROW_BYTES;
  }

  /** Appends a run of a frame. */
  push(start: number, count: number, offsetInFrame: number, frame: FramePlace, source = 0): void {
    const row = this.#next();
    this.starts[row] = start;
    this.counts[row] = count;
    this.offsetsInFrame[row] = offsetInFrame;
    this.frameOffsets[row] = frame.offset / 16;
    this.cipherBytes[row] = frame.cipherBytes;
    this.frameNos[row] = frame.frameNo;
    this.sources[row] = source;
  }

  /** Appends a run of zeros. */
  pushZero(start: number, count: number): void {
    const row = this.#next();
    this.starts[row] = start;
    this.counts[row] = count;
    this.offsetsInFrame[row] = 0;
    this.frameOffsets[row] = 0;
    this.cipherBytes[row] = 0;
    this.frameNos[row] = 0;
    this.sources[row] = 0;
  }

  /** Appends the part of `from`'s run `row` that is [start, end); joins it to the last run where that goes on. */
  pushPart(from: RunTable, row: number, start: number, end: number): void {
    const zero = from.cipherBytes[row] === 0;
    const offsetInFrame = zero
      ? 0
      : (from.offsetsInFrame[row] ?? 0) + start - (from.starts[row] ?? 0);
    if (this.#continues(from, row, start, offsetInFrame)) {
      const last = this.length - 1;
      this.counts[last] = (this.counts[last] ?? 0) + end - start;
      return;
    }
    const next = this.#next();
    this.starts[next] = start;
    this.counts[next] = end - start;
    this.offsetsInFrame[next] = offsetInFrame;
    this.frameOffsets[next] = from.frameOffsets[row] ?? 0;
    this.cipherBytes[next] = from.cipherBytes[row] ?? 0;
    this.frameNos[next] = from.frameNos[row] ?? 0;
    this.sources[next] = from.sources[row] ?? 0;
  }

  /** Appends all runs of `from`. */
  pushAll(from: RunTable): void {
    const { length } = from;
    if (this.length + length > this.starts.length)
      this.#resize(Math.max(this.length + length, this.starts.length * 2));
    this.starts.set(from.starts.subarray(0, length), this.length);
    this.counts.set(from.counts.subarray(0, length), this.length);
    this.offsetsInFrame.set(from.offsetsInFrame.subarray(0, length), this.length);
    this.frameOffsets.set(from.frameOffsets.subarray(0, length), this.length);
    this.cipherBytes.set(from.cipherBytes.subarray(0, length), this.length);
    this.frameNos.set(from.frameNos.subarray(0, length), this.length);
    this.sources.set(from.sources.subarray(0, length), this.length);
    this.length += length;
  }

  /** First row of a sorted table whose run ends after `block`; `length` where there is none. */
  rowAt(block: number): number {
    let low = 0;
    let high = this.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.starts[middle] ?? 0) + (this.counts[middle] ?? 0) <= block) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  isZero(row: number): boolean {
    return this.cipherBytes[row] === 0;
  }

  /** Offset of the frame of `row` in its object. */
  frameOffset(row: number): number {
    return (this.frameOffsets[row] ?? 0) * 16;
  }

  /** Gives back memory that was reserved and not used. */
  trim(): this {
    this.#resize(this.length);
    return this;
  }

  #continues(from: RunTable, row: number, start: number, offsetInFrame: number): boolean {
    const last = this.length - 1;
    if (last < 0 || (this.starts[last] ?? 0) + (this.counts[last] ?? 0) !== start) return false;
    if (start % SHARD_BLOCKS === 0) return false;
    if (this.cipherBytes[last] !== from.cipherBytes[row]) return false;
    if (this.cipherBytes[last] === 0) return true;
    return (
      this.sources[last] === from.sources[row] &&
      this.frameOffsets[last] === from.frameOffsets[row] &&
      (this.offsetsInFrame[last] ?? 0) + (this.counts[last] ?? 0) === offsetInFrame
    );
  }

  #next(): number {
    if (this.length === this.starts.length) this.#resize(Math.max(ROWS_FIRST, this.length * 2));
    return this.length++;
  }

  #resize(rows: number): void {
    this.starts = resized(this.starts, rows);
    this.counts = resized(this.counts, rows);
    this.offsetsInFrame = resized(this.offsetsInFrame, rows);
    this.frameOffsets = resized(this.frameOffsets, rows);
    this.cipherBytes = resized(this.cipherBytes, rows);
    this.frameNos = resized(this.frameNos, rows);
    this.sources = resized(this.sources, rows);
  }
}

function resized(column: Uint32Array, rows: number): Uint32Array {
  if (rows < column.length) return column.slice(0, rows);
  const larger = new Uint32Array(rows);
  larger.set(column);
  return larger;
}
