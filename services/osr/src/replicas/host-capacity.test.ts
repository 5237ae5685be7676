import assert from "node:assert/strict";
import { tmpdir } from "node:os";
import { test } from "node:test";

import { GIB } from "@osr/base/units";

import { type HostCapacity, capacityObjections, measureCapacity } from "./host-capacity.ts";

const host: HostCapacity = {
  cpuCount: 4,
  memoryBytes: 16 * GIB,
  memoryFreeBytes: 8 * GIB,
  diskFreeBytes: 100 * GIB,
};
const need = { cpuCount: 4, memoryBytes: 8 * GIB, diskBytes: 100 * GIB };

function found(more: Partial<typeof need>, less: Partial<HostCapacity> = {}): readonly string[] {
  return capacityObjections({ ...need, ...more }, { ...host, ...less }).map(
    ({ code, level }) => `${code} ${level}`,
  );
}

test("a machine that just fits is not objected to", () => {
  assert.deepEqual(found({}), []);
});

test("what only slows a machine down is a warning, what keeps it from running an error", () => {
  assert.deepEqual(found({ cpuCount: 5 }), ["CAPACITY_CPU warning"]);
  assert.deepEqual(found({ memoryBytes: 8 * GIB + 1 }), ["CAPACITY_MEMORY warning"]);
  assert.deepEqual(found({ memoryBytes: 16 * GIB + 1 }), ["CAPACITY_MEMORY error"]);
  assert.deepEqual(found({ diskBytes: 101 * GIB }), ["CAPACITY_DISK warning"]);
  assert.deepEqual(found({}, { diskFreeBytes: GIB - 1 }), ["CAPACITY_DISK error"]);
});

test("this machine has processors, memory and disk space", () => {
  const measured = measureCapacity(tmpdir());
  assert.ok(measured.cpuCount > 0);
  assert.ok(measured.memoryFreeBytes > 0);
  assert.ok(measured.memoryFreeBytes < measured.memoryBytes);
  assert.ok(measured.diskFreeBytes > 0);
});
