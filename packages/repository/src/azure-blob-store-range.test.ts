import assert from "node:assert/strict";
import { test } from "node:test";

import * as fc from "fast-check";

import { blobRangeOf } from "./azure-blob-store-range.ts";

const numbers = fc.integer({ min: -2, max: 40 });

test("a range is taken only where it is the asked one, as far as the object goes", () => {
  fc.assert(
    fc.property(
      numbers,
      numbers,
      numbers,
      fc.nat(40),
      fc.integer({ min: 1, max: 40 }),
      (first, last, sizeBytes, offset, bytesMax) => {
        const range = blobRangeOf(`bytes ${first}-${last}/${sizeBytes}`, offset, bytesMax);
        const expectedLast = Math.min(offset + bytesMax, sizeBytes) - 1;
        const isRight = first === offset && last === expectedLast && offset <= sizeBytes;
        const expected = { bytes: expectedLast - offset + 1, sizeBytes };
        assert.deepEqual(range, isRight ? expected : undefined);
      },
    ),
    { numRuns: 50_000 },
  );
});

test("whatever else a header says is no range", () => {
  fc.assert(fc.property(fc.string(), (text) => assert.equal(blobRangeOf(text, 0, 10), undefined)));
  for (const text of [
    undefined,
    "",
    "bytes */10",
    "bytes 0-9",
    "bytes 0-9/*",
    "bytes 0-9/10,",
    "bytes 0-9/1e1",
  ])
    assert.equal(blobRangeOf(text, 0, 10), undefined, String(text));
  assert.deepEqual(blobRangeOf("bytes 0-9/10", 0, 10), { bytes: 10, sizeBytes: 10 });
});
