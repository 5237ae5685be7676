import assert from "node:assert/strict";
import { test } from "node:test";

import { GIB, KIB, formatBytes, formatDuration } from "./units.ts";

test("bytes for people", () => {
  assert.deepEqual([0, 1023, KIB, 1.5 * GIB, 15 * GIB, 150 * GIB].map(formatBytes), [
    "0 B",
    "1023 B",
    "1.00 KiB",
    "1.50 GiB",
    "15.0 GiB",
    "150 GiB",
  ]);
});

test("durations for people", () => {
  assert.deepEqual([0, 999, 1000, 65_000, 3_600_000, 12_000_000].map(formatDuration), [
    "0 ms",
    "999 ms",
    "1.0 s",
    "1 min 05 s",
    "1 h 00 min",
    "3 h 20 min",
  ]);
});
