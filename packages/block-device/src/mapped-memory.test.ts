import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, statfsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { mapMemory } from "./mapped-memory.ts";

const MEMORY = "/dev/shm";
const TMPFS_MAGIC = 0x01021994;
const BYTES = 3 * 1024 * 1024;

function skipReason(): string | undefined {
  try {
    return statfsSync(MEMORY).type === TMPFS_MAGIC ? undefined : `${MEMORY} is no tmpfs`;
  } catch {
    return `there is no ${MEMORY}`;
  }
}

const CHILD = `
import { mapMemory } from ${JSON.stringify(join(import.meta.dirname, "mapped-memory.ts"))};
const words = new Uint32Array(mapMemory(process.argv[1], ${BYTES}).buffer);
words[7] = 1234;
words[700_000] = 4321;
process.kill(process.pid, "SIGKILL");
`;

test(
  "what a killed process wrote is there for the next one",
  { skip: skipReason() ?? false },
  (t) => {
    const folder = mkdtempSync(join(MEMORY, "osr-test-"));
    t.after(() => rmSync(folder, { recursive: true }));
    const file = join(folder, "memory");
    const flags = ["--experimental-ffi", "--disable-warning=ExperimentalWarning"];
    const child = spawnSync(
      process.execPath,
      [...flags, "--input-type=module-typescript", "-e", CHILD, file],
      { encoding: "utf8" },
    );
    assert.equal(child.signal, "SIGKILL", child.stderr);
    using memory = mapMemory(file, BYTES);
    const words = new Uint32Array(memory.buffer);
    assert.deepEqual([words[7], words[8], words[700_000]], [1234, 0, 4321]);
    assert.ok(memory.reserve(0, 2 * 1024 * 1024));
    assert.deepEqual([words[7], words[700_000]], [0, 4321]);
    // Of another size: nothing of it is left.
    using other = mapMemory(file, BYTES + 4096);
    assert.equal(new Uint32Array(other.buffer)[700_000], 0);
  },
);

test("a file that is on a disk is refused", (t) => {
  const file = join(import.meta.dirname, `.not-in-memory-${process.pid}`);
  writeFileSync(file, "");
  t.after(() => rmSync(file));
  assert.throws(() => mapMemory(file, BYTES), { code: "MEMORY_UNAVAILABLE" });
});
