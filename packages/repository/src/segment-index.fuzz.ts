import assert from "node:assert/strict";

import * as fc from "fast-check";

import { fuzzTarget } from "@osr/base/testing/fuzz-target";
import { mutated, mutations } from "@osr/base/testing/mutated-bytes";
import { uuidOfName } from "@osr/base/uuid";

import { DIRECTORY_PART, type IndexOwner, openPart, sealPart } from "./index-part.ts";
import { decodeShard, encodeShard } from "./index-shard.ts";
import { OBJECT_KINDS } from "./object-header.ts";
import { RunMap } from "./run-map.ts";
import { type RunTable, SHARD_BLOCKS } from "./run-table.ts";
import { decodeDirectory, encodeIndex } from "./segment-index.ts";
import { assertCoded } from "./testing/coded-error.ts";

const id = uuidOfName("index");
const owner: IndexOwner = {
  indexKey: Buffer.alloc(32, 9),
  header: {
    kind: OBJECT_KINDS.SEGMENT,
    vaultId: id,
    diskId: id,
    timeline: 1,
    generation: 3,
    seq: 9,
    objectId: id,
    keyVersion: 1,
    createdUnixMs: 0,
  },
};
const meta = { session: 4, interval: 7, intervalEnded: 6 };
const FRAMES_END = 2 ** 28;
const PLAIN_BYTES_MAX = 2 ** 16;

const runTables = fc
  .array(
    fc.record({
      start: fc.integer({ min: 0, max: 2 * SHARD_BLOCKS }),
      count: fc.integer({ min: 1, max: 16 }),
      isZero: fc.boolean(),
      frameNo: fc.nat(2 ** 32 - 1),
      place: fc.integer({ min: 8, max: 2 ** 24 - 5000 }),
      cipherBytes: fc.integer({ min: 1, max: 65536 }),
    }),
    { minLength: 1, maxLength: 40 },
  )
  .map((list) => {
    const map = new RunMap();
    for (const { start, count, isZero, frameNo, place, cipherBytes } of list) {
      if (isZero) map.putZero(start, count * 1000);
      else map.put(start, count, 16 - count, { frameNo, offset: place * 16, cipherBytes });
    }
    return map.resolve().trim();
  });

function checkShard(table: RunTable, shardNo: number): void {
  let end = shardNo * SHARD_BLOCKS;
  for (let row = 0; row < table.length; row++) {
    const start = table.starts[row] ?? 0;
    assert.ok(start >= end, "runs are sorted and do not overlap");
    end = start + (table.counts[row] ?? 0);
    if (!table.isZero(row)) assert.ok(table.frameOffset(row) < FRAMES_END);
  }
  assert.ok(end <= (shardNo + 1) * SHARD_BLOCKS, "runs stay in their shard");
}

export const indexShardFuzz = fuzzTarget(
  "index-shard",
  "plaintext of index shards: INDEX_DAMAGED, or sorted runs within the shard and the object",
  fc.property(runTables, fc.nat(4), mutations, (runs, more, changes) => {
    const shardNo = Math.floor((runs.starts[0] ?? 0) / SHARD_BLOCKS);
    const shard = encodeShard(runs, shardNo, 0, runs.rowAt((shardNo + 1) * SHARD_BLOCKS));
    const size = { shardNo, runs: shard.runs + more, zeroRuns: shard.zeroRuns };
    try {
      checkShard(decodeShard(mutated(shard.plain, changes), size, FRAMES_END, 0), shardNo);
    } catch (error) {
      if (error instanceof assert.AssertionError) throw error;
      assertCoded(error);
    }
  }),
);

export const indexDirectoryFuzz = fuzzTarget(
  "index-directory",
  "plaintext of index directories: an error, or shards in order that fill the index",
  fc.property(runTables, mutations, (runs, changes) => {
    const index = encodeIndex(meta, runs, owner);
    const sealed = index.bytes.subarray(0, index.directoryBytes);
    const shardsBytes = index.bytes.length - index.directoryBytes;
    const plain = mutated(openPart(sealed, DIRECTORY_PART, owner, PLAIN_BYTES_MAX), changes);
    try {
      const directory = decodeDirectory(sealPart(plain, DIRECTORY_PART, owner), owner, shardsBytes);
      let bytes = 0;
      for (let shard = 0; shard < directory.shardCount; shard++)
        bytes += directory.shardAt(shard).sealedBytes;
      assert.equal(bytes, shardsBytes);
    } catch (error) {
      if (error instanceof assert.AssertionError) throw error;
      assertCoded(error);
    }
  }),
);

export const indexSealFuzz = fuzzTarget(
  "index-seal",
  "sealed indexes that were changed: an error, or the directory as it was",
  fc.property(runTables, mutations, (runs, changes) => {
    const { bytes, directoryBytes } = encodeIndex(meta, runs, owner);
    const sealed = mutated(bytes.subarray(0, directoryBytes), changes);
    try {
      const read = decodeDirectory(sealed, owner, bytes.length - directoryBytes);
      assert.ok(sealed.equals(bytes.subarray(0, directoryBytes)));
      assert.deepEqual(read.meta, meta);
    } catch (error) {
      if (error instanceof assert.AssertionError) throw error;
      assertCoded(error);
    }
  }),
);
