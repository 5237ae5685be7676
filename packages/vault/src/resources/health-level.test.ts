import assert from "node:assert/strict";
import { test } from "node:test";

import { machineLevel, serverLevel, signalStatus } from "./health-level.ts";

test("what is not known to be harmless to a machine is an error, of a server what says that it is critical", () => {
  const ofMachine = ["CLOCK_SKEWED", "DRAIN_TIME_WARNING", "DISK_VANISHED", "CACHE_FREE_CRITICAL"];
  assert.deepEqual(ofMachine.map(machineLevel), ["Warning", "Warning", "Error", "Error"]);
  const ofServer = ["CPU_WARNING", "CACHE_CRITICAL", "CACHE_FREE_CRITICAL", "CACHE_THROTTLED"];
  assert.deepEqual(ofServer.map(serverLevel), ["Warning", "Error", "Warning", "Error"]);
});

test("a signal has the colour of the worst of its codes, and none of other signals", () => {
  const health = ["CPU_WARNING", "MEMORY_CRITICAL", "CACHE_FREE_CRITICAL"].map((code) => ({
    code,
  }));
  assert.equal(signalStatus(health, "CPU"), "Yellow");
  assert.equal(signalStatus(health, "CPU", "MEMORY"), "Red");
  assert.equal(signalStatus(health, "CACHE"), "Green");
  assert.equal(signalStatus([], "CPU"), "Green");
});
