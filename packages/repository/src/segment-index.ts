import { assert } from "@osr/base/assert";
import { OsrError } from "@osr/base/errors";
import { MIB } from "@osr/base/units";

import { DIRECTORY_PART, type IndexOwner, openPart, sealPart } from "./index-part.ts";
import { type ShardSize, decodeShard, encodeShard } from "./index-shard.ts";
import { REPOSITORY_ERRORS } from "./repository-errors.ts";
import { type RunTable, SHARD_BLOCKS } from "./run-table.ts";
import { type SegmentMeta, decodeSegmentMeta, encodeSegmentMeta } from "./segment-meta.ts";

/** Index of a segment, `directory | shards`: docs/formats/segment.md. */

/** Longest directory: 16,384 shards of 16 TiB and a tag with all its disks. */
export const DIRECTORY_BYTES_MAX = MIB;
/** Longest plaintext of a shard: 262,144 runs with 22 bytes each, and some room. */
const SHARD_PLAIN_BYTES_MAX = 6 * MIB;
const SHARDS_MAX = 16_384;
const ENTRY_BYTES = 24;

export type ShardEntry = ShardSize & {
  /** Number of the part that seals it. */
  readonly part: number;
  /** From the end of the directory. */
  readonly offset: number;
  readonly sealedBytes: number;
  readonly plainBytes: number;
};

export type EncodedIndex = {
  readonly bytes: Buffer;
  readonly directoryBytes: number;
  readonly runCount: number;
  readonly zeroRunCount: number;
};

/** `runs`: resolved, so sorted and without overlaps. */
export function encodeIndex(meta: SegmentMeta, runs: RunTable, owner: IndexOwner): EncodedIndex {
  const shards: Buffer[] = [];
  const entries: Buffer[] = [];
  let offset = 0;
  let runCount = 0;
  let zeroRunCount = 0;
  for (let row = 0; row < runs.length;) {
    const shardNo = Math.floor((runs.starts[row] ?? 0) / SHARD_BLOCKS);
    const end = endOfShard(runs, row, shardNo);
    const shard = encodeShard(runs, shardNo, row, end);
    const sealed = sealPart(shard.plain, shards.length + 1, owner);
    const entry = Buffer.alloc(ENTRY_BYTES);
    [shardNo, offset, sealed.length, shard.runs, shard.zeroRuns, shard.plain.length].forEach(
      (value, column) => entry.writeUInt32LE(value, column * 4),
    );
    entries.push(entry);
    shards.push(sealed);
    offset += sealed.length;
    runCount += shard.runs;
    zeroRunCount += shard.zeroRuns;
    row = end;
  }
  const metaBytes = encodeSegmentMeta(meta);
  const plain = Buffer.concat([u32(metaBytes.length), metaBytes, u32(entries.length), ...entries]);
  assert(plain.length <= DIRECTORY_BYTES_MAX, "the directory is within its limit");
  const directory = sealPart(plain, DIRECTORY_PART, owner);
  const bytes = Buffer.concat([directory, ...shards]);
  return { bytes, directoryBytes: directory.length, runCount, zeroRunCount };
}

/** The directory of an index. Keeps 24 bytes a shard. */
export class SegmentDirectory {
  readonly meta: SegmentMeta;
  readonly #entries: Buffer;

  constructor(meta: SegmentMeta, entries: Buffer) {
    this.meta = meta;
    this.#entries = entries;
  }

  get shardCount(): number {
    return this.#entries.length / ENTRY_BYTES;
  }

  /** The `index`-th shard, from 0. */
  shardAt(index: number): ShardEntry {
    const field = (column: number): number =>
      this.#entries.readUInt32LE(index * ENTRY_BYTES + column * 4);
    return {
      part: index + 1,
      shardNo: field(0),
      offset: field(1),
      sealedBytes: field(2),
      runs: field(3),
      zeroRuns: field(4),
      plainBytes: field(5),
    };
  }

  /** The shard with number `shardNo`, where the segment has one. */
  findShard(shardNo: number): ShardEntry | undefined {
    let low = 0;
    let high = this.shardCount;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#entries.readUInt32LE(middle * ENTRY_BYTES) < shardNo) low = middle + 1;
      else high = middle;
    }
    if (low === this.shardCount) return undefined;
    const entry = this.shardAt(low);
    return entry.shardNo === shardNo ? entry : undefined;
  }
}

/**
 * Opens the directory of an index whose shards take `shardsBytes` bytes. Throws INDEX_DAMAGED, INDEX_UNAUTHENTIC: only
 * who has the index key of exactly this disk, timeline, generation and seq can have written it.
 */
export function decodeDirectory(
  sealed: Buffer,
  owner: IndexOwner,
  shardsBytes: number,
): SegmentDirectory {
  const plain = openPart(sealed, DIRECTORY_PART, owner, DIRECTORY_BYTES_MAX);
  if (plain.length < 8) damaged("the directory is too short");
  const metaEnd = 4 + plain.readUInt32LE(0);
  if (metaEnd + 4 > plain.length) damaged("meta is cut");
  const meta = decodeSegmentMeta(plain.subarray(4, metaEnd));
  const shardCount = plain.readUInt32LE(metaEnd);
  const entries = plain.subarray(metaEnd + 4);
  if (shardCount > SHARDS_MAX || entries.length !== shardCount * ENTRY_BYTES)
    damaged("number of shards differs");
  const directory = new SegmentDirectory(meta, Buffer.from(entries));
  let offset = 0;
  let shardNoMin = 0;
  for (let index = 0; index < shardCount; index++) {
    const entry = directory.shardAt(index);
    if (entry.shardNo < shardNoMin || entry.shardNo >= SHARDS_MAX) damaged("order of the shards");
    if (entry.offset !== offset) damaged("place of a shard");
    if (entry.plainBytes > SHARD_PLAIN_BYTES_MAX) damaged("a shard is too long");
    shardNoMin = entry.shardNo + 1;
    offset += entry.sealedBytes;
  }
  if (offset !== shardsBytes) damaged("length of the shards differs");
  return directory;
}

/** Runs of one shard, sorted. Throws INDEX_DAMAGED, INDEX_UNAUTHENTIC. */
export function openShard(
  sealed: Buffer,
  entry: ShardEntry,
  owner: IndexOwner,
  place: { readonly framesEnd: number; readonly source: number },
): RunTable {
  const plain = openPart(sealed, entry.part, owner, entry.plainBytes);
  if (plain.length !== entry.plainBytes) damaged("unpacked length of a shard differs");
  return decodeShard(plain, entry, place.framesEnd, place.source);
}

/** First row after `row` that is beyond shard `shardNo`. */
function endOfShard(runs: RunTable, row: number, shardNo: number): number {
  const limit = (shardNo + 1) * SHARD_BLOCKS;
  let end = row;
  while (end < runs.length && (runs.starts[end] ?? 0) < limit) end += 1;
  return end;
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value, 0);
  return bytes;
}

function damaged(message: string): never {
  throw new OsrError(REPOSITORY_ERRORS.INDEX_DAMAGED, `index: ${message}`);
}
