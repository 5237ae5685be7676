import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { KIB } from "@osr/base/units";

import { SeededBytes } from "../data/seeded-bytes.ts";
import { endChild, spawnTied } from "../machine/command.ts";
import { NbdReader } from "./nbd-reader.ts";

test("reads what another server serves, at any place, and reports its errors", async () => {
  const folder = await mkdtemp(join(tmpdir(), "osr-nbd-reader-"));
  const socketPath = join(folder, "socket");
  const content = new SeededBytes("nbd").bytes(256 * KIB);
  await writeFile(join(folder, "disk"), content);
  const server = spawnTied(
    "nbdkit",
    ["--foreground", "--readonly", "--unix", socketPath, "file", join(folder, "disk")],
    { stdio: "ignore" },
  );
  try {
    using reader = await NbdReader.open(socketPath, 20_000);
    assert.equal(reader.sizeBytes, content.length);
    for (const [offset, length] of [
      [0, 4096],
      [252 * KIB, 4096],
      [1, 200 * KIB],
    ] as const) {
      const bytes = await reader.read(offset, length);
      assert.ok(bytes.equals(content.subarray(offset, offset + length)), `at ${offset}`);
    }
    await assert.rejects(reader.read(256 * KIB, 4096), { code: "BENCH_WRONG" });
  } finally {
    await endChild(server, 5000);
    await rm(folder, { recursive: true });
  }
});

test("says that nobody answers", async () => {
  await assert.rejects(NbdReader.open("/nonexistent/socket", 10), { code: "BENCH_TIMEOUT" });
});
