import assert from "node:assert/strict";
import { test } from "node:test";

import * as fc from "fast-check";

import { MIB } from "./units.ts";
import { BLOCK_BYTES } from "./block-range.ts";
import { blockStretch, isZero, isZeroBlock } from "./zero.ts";

test("zeros of any length and alignment are zero", () => {
  const bytes = new Uint8Array(2 * MIB + 17);
  for (const [from, to] of [
    [0, 0],
    [0, 1],
    [3, 4096],
    [1, MIB],
    [0, MIB],
    [5, bytes.length],
  ])
    assert.equal(isZero(bytes.subarray(from, to)), true);
});

test("one bit anywhere is found", () => {
  const bytes = new Uint8Array(2 * MIB + 17);
  for (const at of [0, 4095, MIB - 1, MIB, 2 * MIB, bytes.length - 1]) {
    bytes[at] = 0x80;
    assert.equal(isZero(bytes), false, `bit at ${at}`);
    bytes[at] = 0;
  }
});

test("a block that starts with zeros is not zero, one of zeros is, wherever it lies", () => {
  const memory = Buffer.alloc(3 * BLOCK_BYTES, 7);
  memory.fill(0, BLOCK_BYTES, 2 * BLOCK_BYTES);
  assert.deepEqual(
    [0, 1, 2].map((block) => isZeroBlock(memory, block * BLOCK_BYTES)),
    [false, true, false],
  );
  for (const at of [0, 1, 2048, 17, BLOCK_BYTES - 1]) {
    memory[BLOCK_BYTES + at] = 1;
    assert.equal(isZeroBlock(memory, BLOCK_BYTES), false, `byte ${at}`);
    memory[BLOCK_BYTES + at] = 0;
  }
});

test("a stretch ends where blocks turn from zero to not zero or back, or at the count asked for", () => {
  const memory = Buffer.alloc(300 * BLOCK_BYTES);
  const block = fc.nat(299);
  fc.assert(
    fc.property(
      fc.uniqueArray(block, { maxLength: 8 }),
      block,
      fc.integer({ min: 1, max: 300 }),
      fc.constantFrom(0, 2048, 4095),
      (filled, from, count, byteOffset) => {
        const countMax = Math.min(count, 300 - from);
        for (const at of filled) memory[at * BLOCK_BYTES + byteOffset] = 1;
        for (const zero of [true, false]) {
          let expected = 0;
          while (expected < countMax && filled.includes(from + expected) !== zero) expected += 1;
          assert.equal(blockStretch(memory, from * BLOCK_BYTES, countMax, zero), expected);
        }
        for (const at of filled) memory[at * BLOCK_BYTES + byteOffset] = 0;
      },
    ),
  );
});
