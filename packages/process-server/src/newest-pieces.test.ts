import assert from "node:assert/strict";
import { test } from "node:test";

import * as fc from "fast-check";

import { type Piece, ZERO_SOURCE, newestPieces } from "./newest-pieces.ts";

const piece = fc
  .record({
    block: fc.integer({ min: 0, max: 60 }),
    count: fc.integer({ min: 1, max: 20 }),
    zero: fc.boolean(),
  })
  .map(({ block, count, zero }) => ({ block, count, zero }));

test("newest pieces equal a map in which later pieces overwrite earlier ones", () => {
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 25 }), (specs) => {
      let offset = 0;
      const pieces: Piece[] = specs.map(({ block, count, zero }) => {
        const sourceOffset = zero ? ZERO_SOURCE : offset;
        offset += zero ? 0 : count * 4096;
        return { block, count, sourceOffset };
      });
      const model = new Map<number, number>();
      for (const { block, count, sourceOffset } of pieces)
        for (let i = 0; i < count; i++)
          model.set(
            block + i,
            sourceOffset === ZERO_SOURCE ? ZERO_SOURCE : sourceOffset + i * 4096,
          );
      const result = newestPieces(pieces);
      const got = new Map<number, number>();
      let end = 0;
      for (const { block, count, sourceOffset } of result) {
        assert.ok(block >= end, "ascending, without overlaps");
        end = block + count;
        for (let i = 0; i < count; i++)
          got.set(block + i, sourceOffset === ZERO_SOURCE ? ZERO_SOURCE : sourceOffset + i * 4096);
      }
      assert.deepEqual(
        [...got].toSorted((a, b) => a[0] - b[0]),
        [...model].toSorted((a, b) => a[0] - b[0]),
      );
    }),
    { numRuns: 400 },
  );
});

test("pieces far beyond 2^31 keep their numbers", () => {
  const block = 2 ** 32 - 4;
  const pieces = [
    { block, count: 4, sourceOffset: 0 },
    { block: block + 1, count: 2, sourceOffset: ZERO_SOURCE },
  ];
  assert.deepEqual(
    newestPieces(pieces).map(({ block, count }) => [block, count]),
    [
      [block, 1],
      [block + 1, 2],
      [block + 3, 1],
    ],
  );
});
