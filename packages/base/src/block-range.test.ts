import assert from "node:assert/strict";
import { test } from "node:test";

import { alignedPieces, blocksOf } from "./block-range.ts";

test("pieces don't cross multiples, also beyond 2^31 blocks", () => {
  const start = 2 ** 31 + 5;
  assert.deepEqual(
    [...alignedPieces({ start, count: 30 }, 16)],
    [
      { start, count: 11 },
      { start: 2 ** 31 + 16, count: 16 },
      { start: 2 ** 31 + 32, count: 3 },
    ],
  );
  assert.deepEqual([...alignedPieces({ start: 7, count: 0 }, 16)], []);
});

test("a partial last block counts", () => {
  assert.deepEqual([blocksOf(0), blocksOf(1), blocksOf(4096), blocksOf(4097)], [0, 1, 1, 2]);
});
