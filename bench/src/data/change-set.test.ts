import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtemp, open, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { BLOCK_BYTES } from "@osr/base/block-range";
import { GIB, MIB } from "@osr/base/units";

import {
  type ChangeSet,
  applyChanges,
  changedBlocks,
  clusteredChanges,
  scatteredChanges,
} from "./change-set.ts";
import { SeededBytes } from "./seeded-bytes.ts";

function digest({ writes }: ChangeSet): string {
  const hash = createHash("sha256");
  for (const { offset, content } of writes) hash.update(String(offset)).update(content);
  return hash.digest("hex");
}

const SMALL = { rangeBytes: 128 * MIB, scale: 1 / 16 };

// The numbers of every report depend on these bytes: they are the same on every machine and in every version.
test("the same seed gives the same bytes for ever", () => {
  const random = new SeededBytes("a");
  assert.equal(random.bytes(8).toString("hex"), "3ea02d42ae653a06");
  assert.equal(random.below(1000), 8);
  assert.equal(
    digest(scatteredChanges({ ...SMALL, seed: "7" })),
    "6d50c7eaf97a8f8a9f3414b83b830be774a7b1e112116ea78367c1f28b64583a",
  );
  assert.equal(
    digest(clusteredChanges({ ...SMALL, seed: "11" })),
    "9d622a2b2be2f1cf7629e4a8d9e1b763026920beea85b89cbc1eb565c2fa58a3",
  );
});

test("another seed gives other bytes at other places", () => {
  for (const make of [scatteredChanges, clusteredChanges]) {
    const one = make({ ...SMALL, seed: "1" });
    const other = make({ ...SMALL, seed: "2" });
    assert.equal(digest(one), digest(make({ ...SMALL, seed: "1" })));
    assert.notEqual(digest(one), digest(other));
    assert.notDeepEqual(changedBlocks(one), changedBlocks(other));
  }
});

test("the full change sets carry what the numbers to beat were taken with", () => {
  const options = { seed: "7", rangeBytes: 2 * GIB, scale: 1 };
  const scattered = (changedBlocks(scatteredChanges(options)).length * BLOCK_BYTES) / MIB;
  assert.ok(scattered > 46 && scattered < 48, `scattered: ${scattered} MiB`);
  const clustered = (changedBlocks(clusteredChanges(options)).length * BLOCK_BYTES) / MIB;
  assert.ok(clustered > 17 && clustered < 22, `clustered: ${clustered} MiB`);
});

test("writes stay within their range, in whole blocks", () => {
  for (const make of [scatteredChanges, clusteredChanges])
    for (const { offset, content } of make({ ...SMALL, seed: "3" }).writes) {
      assert.equal(offset % BLOCK_BYTES, 0);
      assert.equal(content.length % BLOCK_BYTES, 0);
      assert.ok(offset >= 0 && offset + content.length <= SMALL.rangeBytes);
    }
});

test("applying a change set changes exactly its blocks", async () => {
  const folder = await mkdtemp(join(tmpdir(), "osr-change-set-"));
  try {
    const path = join(folder, "disk");
    await using file = await open(path, "w+");
    await file.truncate(16 * MIB);
    const changes = clusteredChanges({ rangeBytes: 16 * MIB, scale: 1 / 16, seed: "5" });
    await applyChanges(file, changes);
    const content = await readFile(path);
    const written: number[] = [];
    const zeros = Buffer.alloc(BLOCK_BYTES);
    for (let block = 0; block < content.length / BLOCK_BYTES; block++)
      if (!content.subarray(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES).equals(zeros))
        written.push(block);
    assert.deepEqual(written, changedBlocks(changes));
  } finally {
    await rm(folder, { recursive: true });
  }
});
