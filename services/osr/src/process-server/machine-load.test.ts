import assert from "node:assert/strict";
import { test } from "node:test";

import { LoadMeter } from "./machine-load.ts";

test("a process that works is seen in the load, and shares stay within a thousand", () => {
  const meter = new LoadMeter();
  const endMs = performance.now() + 200;
  while (performance.now() < endMs) Math.sqrt(endMs);
  const { cpuPermille, memoryPermille } = meter.load();
  assert.ok(cpuPermille > 0 && cpuPermille <= 1000, String(cpuPermille));
  assert.ok(memoryPermille > 0 && memoryPermille < 1000, String(memoryPermille));
});
