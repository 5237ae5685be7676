import assert from "node:assert/strict";
import { test } from "node:test";

import * as fc from "fast-check";

import { randomUuid } from "@osr/base/uuid";

import { DIRECTORY_PART, openPart, sealPart } from "./index-part.ts";
import { decodeShard, encodeShard } from "./index-shard.ts";
import { OBJECT_KINDS, type ObjectHeader } from "./object-header.ts";
import { REPOSITORY_ERRORS } from "./repository-errors.ts";
import { RunMap } from "./run-map.ts";
import { RunTable, SHARD_BLOCKS } from "./run-table.ts";
import { decodeDirectory, encodeIndex, openShard } from "./segment-index.ts";
import { assertCoded, coded } from "./testing/coded-error.ts";
import { FIXTURE_CLOCK } from "./testing/log-fixture.ts";
import { seededRandomness } from "./testing/seeded-randomness.ts";

const E = REPOSITORY_ERRORS;
const randomness = seededRandomness("index");
const header: ObjectHeader = {
  kind: OBJECT_KINDS.SEGMENT,
  vaultId: randomUuid(randomness),
  diskId: randomUuid(randomness),
  timeline: 1,
  generation: 3,
  seq: 9,
  objectId: randomUuid(randomness),
  keyVersion: 1,
  createdUnixMs: FIXTURE_CLOCK.unixMs(),
};
const owner = { header, indexKey: randomness.bytes(32) };
const meta = { session: 4, interval: 7, intervalEnded: 6 };
const FRAMES_END = 2 ** 28;

const runMaps = fc
  .array(
    fc.record({
      start: fc.integer({ min: 0, max: 4 * SHARD_BLOCKS }),
      count: fc.integer({ min: 1, max: 16 }),
      zero: fc.boolean(),
      frameNo: fc.nat(2 ** 32 - 1),
      place: fc.integer({ min: 8, max: 2 ** 24 - 5000 }),
      cipherBytes: fc.integer({ min: 1, max: 65536 }),
    }),
    { maxLength: 80 },
  )
  .map((list) => {
    const map = new RunMap();
    for (const { start, count, zero, frameNo, place, cipherBytes } of list) {
      const offset = place * 16;
      if (zero) map.putZero(start, count * 1000);
      else map.put(start, count, 16 - count, { frameNo, offset, cipherBytes });
    }
    return map.resolve().trim();
  });

function rows(table: RunTable): unknown {
  const { length, starts, counts, offsetsInFrame, frameOffsets, cipherBytes, frameNos } = table;
  return [starts, counts, offsetsInFrame, frameOffsets, cipherBytes, frameNos].map((column) => [
    ...column.subarray(0, length),
  ]);
}

test("an index gives back meta and runs, shard by shard", () => {
  fc.assert(
    fc.property(runMaps, (runs) => {
      const index = encodeIndex(meta, runs, owner);
      const shardsBytes = index.bytes.length - index.directoryBytes;
      const sealed = index.bytes.subarray(0, index.directoryBytes);
      const directory = decodeDirectory(sealed, owner, shardsBytes);
      assert.deepEqual(directory.meta, meta);
      const all = new RunMap().resolve();
      for (let i = 0; i < directory.shardCount; i++) {
        const entry = directory.shardAt(i);
        assert.deepEqual(directory.findShard(entry.shardNo), entry);
        const start = index.directoryBytes + entry.offset;
        const shard = index.bytes.subarray(start, start + entry.sealedBytes);
        all.pushAll(openShard(shard, entry, owner, { framesEnd: FRAMES_END, source: 0 }));
      }
      assert.deepEqual(rows(all), rows(runs));
      assert.equal(index.runCount + index.zeroRunCount, runs.length);
      assert.equal(directory.findShard(9999), undefined);
    }),
    { numRuns: 150 },
  );
});

test("a directory opens only in the place for which it was made", () => {
  const { bytes } = encodeIndex(meta, new RunMap().resolve(), owner);
  assert.deepEqual(decodeDirectory(bytes, owner, 0).meta, meta);
  const others: Partial<ObjectHeader>[] = [
    { seq: 10 },
    { generation: 4 },
    { timeline: 2 },
    { diskId: header.vaultId },
    { vaultId: header.diskId },
  ];
  for (const other of others)
    assert.throws(
      () => decodeDirectory(bytes, { ...owner, header: { ...header, ...other } }, 0),
      coded(E.INDEX_UNAUTHENTIC),
    );
  assert.throws(
    () => decodeDirectory(bytes, { ...owner, indexKey: Buffer.alloc(32) }, 0),
    coded(E.INDEX_UNAUTHENTIC),
  );
  assert.throws(() => decodeDirectory(bytes, owner, 1), coded(E.INDEX_DAMAGED));
});

test("parts do not open as one another, and not when a bit differs", () => {
  const sealed = sealPart(Buffer.from("plain"), DIRECTORY_PART, owner);
  assert.equal(openPart(sealed, DIRECTORY_PART, owner, 5).toString(), "plain");
  assert.throws(() => openPart(sealed, 1, owner, 5), coded(E.INDEX_UNAUTHENTIC));
  for (let at = 0; at < sealed.length; at++) {
    const copy = Buffer.from(sealed);
    copy[at] = (copy[at] ?? 0) ^ 4;
    assert.throws(() => openPart(copy, DIRECTORY_PART, owner, 5), coded(E.INDEX_UNAUTHENTIC));
    assert.throws(
      () => openPart(sealed.subarray(0, at), DIRECTORY_PART, owner, 5),
      coded(E.INDEX_UNAUTHENTIC, E.INDEX_DAMAGED),
    );
  }
});

test("a part that unpacks to more than is allowed is refused", () => {
  const sealed = sealPart(Buffer.alloc(2 ** 24), 1, owner);
  assert.ok(sealed.length < 2000);
  assert.throws(() => openPart(sealed, 1, owner, 2 ** 20), coded(E.INDEX_DAMAGED));
});

test("any plaintext of a directory is refused or understood, never more", () => {
  const valid = openPart(
    encodeIndex(meta, new RunMap().resolve(), owner).bytes,
    DIRECTORY_PART,
    owner,
    1000,
  );
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), fc.nat(valid.length), (noise, at) => {
      const plain = Buffer.concat([
        valid.subarray(0, at),
        noise,
        valid.subarray(at + noise.length),
      ]);
      const sealed = sealPart(plain, DIRECTORY_PART, owner);
      try {
        decodeDirectory(sealed, owner, 0);
      } catch (error) {
        assertCoded(error);
      }
    }),
    { numRuns: 300 },
  );
});

test("any plaintext of a shard gives an error of ours or valid runs", () => {
  fc.assert(
    fc.property(
      runMaps,
      fc.uint8Array({ minLength: 1, maxLength: 12 }),
      fc.nat(2000),
      fc.nat(5),
      (runs, noise, at, more) => {
        if (runs.length === 0) return;
        const shardNo = Math.floor((runs.starts[0] ?? 0) / SHARD_BLOCKS);
        const end = runs.rowAt((shardNo + 1) * SHARD_BLOCKS);
        const shard = encodeShard(runs, shardNo, 0, end);
        const plain = Buffer.from(shard.plain);
        plain.set(noise.subarray(0, plain.length - (at % plain.length)), at % plain.length);
        const size = { shardNo, runs: shard.runs + more, zeroRuns: shard.zeroRuns };
        try {
          const table = decodeShard(plain, size, FRAMES_END, 0);
          let before = shardNo * SHARD_BLOCKS;
          for (let row = 0; row < table.length; row++) {
            const start = table.starts[row] ?? 0;
            assert.ok(start >= before);
            before = start + (table.counts[row] ?? 0);
          }
          assert.ok(before <= (shardNo + 1) * SHARD_BLOCKS);
        } catch (error) {
          if (error instanceof assert.AssertionError) throw error;
          assertCoded(error);
        }
      },
    ),
    { numRuns: 500 },
  );
});

test("counts that the bytes cannot hold are refused before anything is allocated", () => {
  const size = { shardNo: 0, runs: 2 ** 32 - 1, zeroRuns: 2 ** 32 - 1 };
  assert.throws(() => decodeShard(Buffer.alloc(100), size, FRAMES_END, 0), coded(E.INDEX_DAMAGED));
});

test("a run and a zero run that overlap are refused", () => {
  const frame = { frameNo: 0, offset: 128, cipherBytes: 9 };
  for (const [zeroStart, isValid] of [
    [0, false],
    [2, false],
    [3, false],
    [4, true],
  ] as const) {
    const table = new RunTable();
    table.push(1, 3, 0, frame);
    table.pushZero(zeroStart, 2);
    const { plain, runs, zeroRuns } = encodeShard(table, 0, 0, 2);
    const decode = (): RunTable =>
      decodeShard(plain, { shardNo: 0, runs, zeroRuns }, FRAMES_END, 0);
    if (isValid) assert.equal(decode().length, 2);
    else assert.throws(decode, coded(E.INDEX_DAMAGED));
  }
});
