import assert from "node:assert/strict";
import { test } from "node:test";

import { cacheLevelOf, delayMsOf, freeShareOf } from "./cache-ladder.ts";

test("the cache is full at its limit or where the file system is", () => {
  const roomy = { sizeBytes: 1000, availableBytes: 900 };
  assert.equal(freeShareOf(roomy, { limitBytes: 100, usedBytes: 25 }), 0.75);
  assert.equal(freeShareOf(roomy, { limitBytes: 100, usedBytes: 120 }), 0);
  const tight = { sizeBytes: 1000, availableBytes: 10 };
  assert.equal(freeShareOf(tight, { limitBytes: 100, usedBytes: 25 }), 0.1);
  assert.equal(freeShareOf(tight, { limitBytes: 5000, usedBytes: 0 }), 0.01);
});

test("the ladder has its steps at 30, 25 and 20 percent", () => {
  const levels = [0.3, 0.2999, 0.25, 0.2499, 0.2, 0.1999].map(cacheLevelOf);
  assert.deepEqual(levels, ["normal", "warning", "warning", "critical", "critical", "throttled"]);
});

test("the delay rises from 25 down to 20 percent", () => {
  assert.deepEqual([0.3, 0.25, 0.225, 0.2, 0].map(delayMsOf), [0, 0, 1000, 2000, 2000]);
});
