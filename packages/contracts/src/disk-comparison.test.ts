import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { test } from "node:test";

import {
  COMPARISON_HASH_BYTES,
  ComparisonHasher,
  GRANULE_BYTES,
  granulesOf,
} from "./disk-comparison.ts";

const KEY = Buffer.from(Array.from({ length: 32 }, (_, at) => at));

test("golden hashes", () => {
  const hasher = new ComparisonHasher(KEY);
  const granule = Buffer.alloc(GRANULE_BYTES);
  for (let at = 0; at < GRANULE_BYTES; at += 4) granule.writeUInt32LE(at, at);
  const blocks = hasher.blocks(granule);
  assert.deepEqual(
    [hasher.zeroGranule, hasher.zeroBlock, hasher.granule(granule), blocks.subarray(-16)].map(
      (hash) => hash.toString("hex"),
    ),
    [
      "ff6e00df01ea139d4d3d480c9ec86692",
      "8e1a3abeadbb56ea8142ca199399b1fa",
      "f3fb59ecdfbf5ada86596f70c3f00d46",
      "59620b0fdc64c1f07a722e51a857717d",
    ],
  );
  assert.equal(blocks.length, 4096);
  const model = createHmac("sha256", KEY).update(granule.subarray(4096, 8192)).digest();
  assert.deepEqual(blocks.subarray(16, 32), model.subarray(0, COMPARISON_HASH_BYTES));
});

test("the last granule of a disk counts whole", () => {
  assert.deepEqual([1, GRANULE_BYTES, GRANULE_BYTES + 1].map(granulesOf), [1, 1, 2]);
});
