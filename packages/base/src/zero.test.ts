import assert from "node:assert/strict";
import { test } from "node:test";

import { MIB } from "./units.ts";
import { isZero } from "./zero.ts";

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
