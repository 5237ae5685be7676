import assert from "node:assert/strict";
import { test } from "node:test";

import * as fc from "fast-check";

import { RunMap } from "./run-map.ts";
import { resolveRuns } from "./run-resolution.ts";
import { RunTable, SHARD_BLOCKS } from "./run-table.ts";

/** Where a block is: `frameNo:offsetInFrame`, or "zero". */
type Model = Map<number, string>;
type Put =
  | { readonly zero: true; readonly start: number; readonly count: number }
  | { readonly zero: false; readonly start: number; readonly count: number; readonly skip: number };

/** Blocks on both sides of a shard boundary, dense enough that runs meet. */
const starts = fc.oneof(
  fc.integer({ min: 0, max: 60 }),
  fc.integer({ min: SHARD_BLOCKS - 40, max: SHARD_BLOCKS + 40 }),
);
const puts: fc.Arbitrary<readonly Put[]> = fc.array(
  fc.oneof(
    fc.record({
      zero: fc.constant(true as const),
      start: starts,
      count: fc.integer({ min: 1, max: 50 }),
    }),
    fc.record({
      zero: fc.constant(false as const),
      start: starts,
      count: fc.integer({ min: 1, max: 10 }),
      skip: fc.integer({ min: 0, max: 6 }),
    }),
  ),
  { maxLength: 60 },
);

function apply(model: Model, put: Put, frameNo: number): void {
  for (let i = 0; i < put.count; i++)
    model.set(put.start + i, put.zero ? "zero" : `${frameNo}:${put.skip + i}`);
}

function mapOf(list: readonly Put[], frameNoFirst: number): RunMap {
  const map = new RunMap();
  list.forEach((put, i) => {
    if (put.zero) return map.putZero(put.start, put.count);
    const frameNo = frameNoFirst + i;
    map.put(put.start, put.count, put.skip, {
      frameNo,
      offset: 128 + frameNo * 16,
      cipherBytes: 9,
    });
  });
  return map;
}

function modelOf(table: RunTable): Model {
  const model: Model = new Map();
  for (let row = 0; row < table.length; row++)
    for (let i = 0; i < (table.counts[row] ?? 0); i++) {
      const block = (table.starts[row] ?? 0) + i;
      assert.ok(!model.has(block), "runs overlap");
      const offset = (table.offsetsInFrame[row] ?? 0) + i;
      model.set(block, table.isZero(row) ? "zero" : `${table.frameNos[row]}:${offset}`);
      if (!table.isZero(row))
        assert.equal(table.frameOffset(row), 128 + (table.frameNos[row] ?? 0) * 16);
    }
  return model;
}

function assertResolved(table: RunTable): void {
  for (let row = 0; row < table.length; row++) {
    const start = table.starts[row] ?? 0;
    const end = start + (table.counts[row] ?? 0);
    assert.equal(Math.floor(start / SHARD_BLOCKS), Math.floor((end - 1) / SHARD_BLOCKS));
    if (row > 0) assert.ok(start >= (table.starts[row - 1] ?? 0) + (table.counts[row - 1] ?? 0));
  }
}

test("a resolved map is the newest put of every block, split at shard boundaries", () => {
  fc.assert(
    fc.property(puts, (list) => {
      const expected: Model = new Map();
      list.forEach((put, i) => apply(expected, put, i));
      const table = mapOf(list, 0).resolve();
      assertResolved(table);
      assert.deepEqual(modelOf(table), expected);
    }),
    { numRuns: 400 },
  );
});

test("merging is newest wins, and associative", () => {
  fc.assert(
    fc.property(puts, puts, puts, (a, b, c) => {
      const tables = [mapOf(a, 0), mapOf(b, 1000), mapOf(c, 2000)].map((map) => map.resolve());
      const [ta, tb, tc] = tables as [RunTable, RunTable, RunTable];
      const expected: Model = new Map();
      for (const table of tables)
        for (const [block, place] of modelOf(table)) expected.set(block, place);
      const left = merged(merged(ta, tb), tc);
      const right = merged(ta, merged(tb, tc));
      const once = merged(ta, tb, tc);
      for (const table of [left, right, once]) {
        assertResolved(table);
        assert.deepEqual(modelOf(table), expected);
      }
    }),
    { numRuns: 200 },
  );
});

test("a table finds the run of a block, or the one after it", () => {
  const map = new RunMap();
  map.putZero(10, 5);
  map.put(20, 4, 0, { frameNo: 0, offset: 128, cipherBytes: 5 });
  const table = map.resolve();
  assert.deepEqual(
    [0, 10, 14, 15, 20, 23, 24].map((block) => table.rowAt(block)),
    [0, 0, 0, 1, 1, 1, 2],
  );
});

test("a quarter of a million overlapping runs are resolved", () => {
  const map = new RunMap();
  const frame = { frameNo: 1, offset: 128, cipherBytes: 5 };
  for (let i = 0; i < 250_000; i++) map.put((i * 7919) % 500_000, 1 + (i % 16), 0, frame);
  map.putZero(0, 600_000);
  const table = map.resolve();
  assert.equal(table.length, 3);
  assert.deepEqual(
    [...table.trim().counts],
    [SHARD_BLOCKS, SHARD_BLOCKS, 600_000 - 2 * SHARD_BLOCKS],
  );
});

test("the whole of the largest disk can be zero", () => {
  const map = new RunMap();
  map.putZero(0, 2 ** 32 - 1);
  map.putZero(2 ** 32 - 1, 1);
  const table = map.resolve();
  assert.equal(table.length, 2 ** 32 / SHARD_BLOCKS);
  assert.equal(table.rowAt(2 ** 32 - 1), table.length - 1);
  assert.throws(() => map.putZero(2 ** 32 - 1, 2), { code: "INTERNAL_ASSERTION" });
});

function merged(...tables: readonly RunTable[]): RunTable {
  const all = new RunTable();
  for (const table of tables) all.pushAll(table);
  return resolveRuns(all);
}
