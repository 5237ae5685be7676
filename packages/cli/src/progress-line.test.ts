import assert from "node:assert/strict";
import { test } from "node:test";

import { MIB } from "@osr/base/units";

import { progressLine } from "./progress-line.ts";

test("bytes, rate and time left are told", () => {
  let now = 0;
  const line = progressLine("copy", { unixMs: () => now, monotonicMs: () => now });
  assert.equal(line.text(0, 100 * MIB), "copy: 0 % (0 B of 100 MiB)");
  now = 1000;
  assert.equal(
    line.text(10 * MIB, 100 * MIB),
    "copy: 10 % (10.0 MiB of 100 MiB), 10.0 MiB/s, 9.0 s left",
  );
  now = 10_000;
  assert.match(
    line.text(100 * MIB, 100 * MIB),
    /^copy: 100 % \(100 MiB of 100 MiB\), 10\.0 MiB\/s$/,
  );
});

test("an empty disk is complete", () => {
  const line = progressLine("copy", { unixMs: () => 0, monotonicMs: () => 0 });
  assert.equal(line.text(0, 0), "copy: 100 % (0 B of 0 B)");
});
