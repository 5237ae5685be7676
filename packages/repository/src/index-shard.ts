import { OsrError } from "@osr/base/errors";

import { FRAME_BLOCKS_MAX, frameBytesOf } from "./frame.ts";
import { OBJECT_HEADER_BYTES } from "./object-header.ts";
import { REPOSITORY_ERRORS } from "./repository-errors.ts";
import { RunTable, SHARD_BLOCKS } from "./run-table.ts";
import { VarintReader, VarintWriter } from "./varint.ts";

/** Columns of one shard of an index: docs/formats/segment.md, Shard plaintext. */

/** What the directory says about a shard. */
export type ShardSize = {
  readonly shardNo: number;
  readonly runs: number;
  readonly zeroRuns: number;
};

/** Rows [first, end) of `table`, which are sorted and lie within shard `shardNo`, as plaintext. */
export function encodeShard(
  table: RunTable,
  shardNo: number,
  first: number,
  end: number,
): { readonly plain: Buffer; readonly runs: number; readonly zeroRuns: number } {
  const runs: number[] = [];
  const zeroRuns: number[] = [];
  for (let row = first; row < end; row++) (table.isZero(row) ? zeroRuns : runs).push(row);
  const writer = new VarintWriter();
  writeGaps(writer, table, runs, shardNo * SHARD_BLOCKS);
  for (const row of runs) writer.write(table.counts[row] ?? 0);
  for (const row of runs) writer.write(table.offsetsInFrame[row] ?? 0);
  for (const row of runs) writer.write(table.sources[row] ?? 0);
  writeSteps(writer, table.frameOffsets, runs);
  for (const row of runs) writer.write(table.cipherBytes[row] ?? 0);
  writeSteps(writer, table.frameNos, runs);
  writeGaps(writer, table, zeroRuns, shardNo * SHARD_BLOCKS);
  for (const row of zeroRuns) writer.write(table.counts[row] ?? 0);
  return { plain: writer.bytes(), runs: runs.length, zeroRuns: zeroRuns.length };
}

/**
 * The runs of a shard, sorted, with `source` as their source. Frames must lie between the header and `framesEnd`. Throws
 * INDEX_DAMAGED.
 */
export function decodeShard(
  plain: Buffer,
  size: ShardSize,
  framesEnd: number,
  source: number,
): RunTable {
  const { runs, zeroRuns } = size;
  const fail = (message: string): never => {
    throw new OsrError(
      REPOSITORY_ERRORS.INDEX_DAMAGED,
      `shard ${size.shardNo} of the index: ${message}`,
    );
  };
  // Every run takes at least 7 bytes and every zero run 2: nothing is allocated for counts that cannot be true.
  if (runs * 7 + zeroRuns * 2 > plain.length) fail("it has fewer bytes than its runs need");
  const reader = new VarintReader(plain, fail);
  const gaps = readColumn(reader, runs);
  const counts = readColumn(reader, runs);
  const offsetsInFrame = readColumn(reader, runs);
  for (let i = 0; i < runs; i++) if (reader.read() !== 0) fail("a run points into a pack");
  const frameOffsets = readSteps(reader, runs, fail);
  const cipherBytes = readColumn(reader, runs);
  const frameNos = readSteps(reader, runs, fail);
  const zeroGaps = readColumn(reader, zeroRuns);
  const zeroCounts = readColumn(reader, zeroRuns);
  if (!reader.isAtEnd) fail("bytes follow the last column");

  const table = new RunTable(runs + zeroRuns);
  const first = size.shardNo * SHARD_BLOCKS;
  let end = first;
  let start = first + (gaps[0] ?? 0);
  let zeroStart = first + (zeroGaps[0] ?? 0);
  let run = 0;
  let zeroRun = 0;
  while (run < runs || zeroRun < zeroRuns) {
    const isZero = run === runs || (zeroRun < zeroRuns && zeroStart < start);
    const at = isZero ? zeroStart : start;
    const count = (isZero ? zeroCounts[zeroRun] : counts[run]) ?? 0;
    if (at < end) fail("runs overlap");
    if (count === 0 || at + count > first + SHARD_BLOCKS) fail("a run leaves its shard");
    end = at + count;
    if (isZero) {
      table.pushZero(at, count);
      zeroStart = end + (zeroGaps[++zeroRun] ?? 0);
      continue;
    }
    const offsetInFrame = offsetsInFrame[run] ?? 0;
    const offset = (frameOffsets[run] ?? 0) * 16;
    const sealedBytes = cipherBytes[run] ?? 0;
    if (offsetInFrame + count > FRAME_BLOCKS_MAX) fail("a run leaves its frame");
    if (sealedBytes === 0 || offset < OBJECT_HEADER_BYTES) fail("a run has no frame");
    if (offset + frameBytesOf(sealedBytes) > framesEnd) fail("a frame lies outside its object");
    const frame = { offset, cipherBytes: sealedBytes, frameNo: frameNos[run] ?? 0 };
    table.push(at, count, offsetInFrame, frame, source);
    start = end + (gaps[++run] ?? 0);
  }
  return table;
}

/** Distances from the end of a run to the start of the next. */
function writeGaps(
  writer: VarintWriter,
  table: RunTable,
  rows: readonly number[],
  first: number,
): void {
  let end = first;
  for (const row of rows) {
    const start = table.starts[row] ?? 0;
    writer.write(start - end);
    end = start + (table.counts[row] ?? 0);
  }
}

function writeSteps(writer: VarintWriter, column: Uint32Array, rows: readonly number[]): void {
  let before = 0;
  for (const row of rows) {
    const value = column[row] ?? 0;
    writer.writeSigned(value - before);
    before = value;
  }
}

function readColumn(reader: VarintReader, length: number): Float64Array {
  const column = new Float64Array(length);
  for (let i = 0; i < length; i++) column[i] = reader.read();
  return column;
}

function readSteps(
  reader: VarintReader,
  length: number,
  fail: (message: string) => never,
): Float64Array {
  const column = new Float64Array(length);
  let value = 0;
  for (let i = 0; i < length; i++) {
    value += reader.readSigned();
    if (value < 0 || value >= 2 ** 32) fail("a number is out of its range");
    column[i] = value;
  }
  return column;
}
