import assert from "node:assert/strict";
import { test } from "node:test";

import * as fc from "fast-check";

import { bitCount, bitsWithin, lowestBit } from "./bits.ts";

const word = fc.oneof(
  fc.integer({ min: -(2 ** 31), max: 2 ** 32 - 1 }),
  fc.constantFrom(0, 1, -1, 2 ** 31, -(2 ** 31), 2 ** 32 - 1),
);

/** From the lowest on. */
function digitsOf(value: number): string[] {
  return (value >>> 0).toString(2).padStart(32, "0").split("").toReversed();
}

test("bits are counted and found as in the word's digits, signed or not", () => {
  fc.assert(
    fc.property(word, (value) => {
      const digits = digitsOf(value);
      assert.equal(bitCount(value), digits.filter((digit) => digit === "1").length);
      if (value !== 0) assert.equal(lowestBit(value), digits.indexOf("1"));
    }),
  );
});

test("bits within two places are set, and no others", () => {
  for (let from = 0; from < 32; from++)
    for (let to = from + 1; to <= 32; to++) {
      const expected = Array.from({ length: 32 }, (_, at) => (at >= from && at < to ? "1" : "0"));
      assert.deepEqual(digitsOf(bitsWithin(from, to)), expected);
    }
});
