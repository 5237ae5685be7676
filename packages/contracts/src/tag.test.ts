import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";

import * as fc from "fast-check";

import { OsrError } from "@osr/base/errors";
import { uuidOfName } from "@osr/base/uuid";

import { SLOT_SECONDS, TAG_CLASSES, TAG_DISKS_MAX, decodeTag, encodeTag, nextSlot } from "./tag.ts";

const tags = fc
  .record({
    slot: fc.maxSafeNat(),
    class: fc.constantFrom(...TAG_CLASSES),
    unixMs: fc.maxSafeNat(),
    seed: fc.string(),
    disks: fc.nat(5),
  })
  .map(({ seed, disks, ...fields }) => ({
    ...fields,
    groupId: uuidOfName(seed, "group"),
    cutId: uuidOfName(seed, "cut"),
    disks: Array.from({ length: disks }, (_, i) => uuidOfName(seed, String(i))).toSorted(),
  }));

test("a tag gives back what was written, in one spelling", () => {
  fc.assert(
    fc.property(tags, (tag) => {
      assert.deepEqual(decodeTag(encodeTag(tag)), tag);
      const reversed = Object.fromEntries(Object.entries(tag).toReversed()) as typeof tag;
      assert.ok(encodeTag(reversed).equals(encodeTag(tag)));
    }),
  );
});

test("any bytes are refused or understood", () => {
  const [tag] = fc.sample(tags, { numRuns: 1, seed: 1 });
  assert.ok(tag !== undefined);
  const bytes = encodeTag(tag);
  fc.assert(
    fc.property(fc.nat(bytes.length), fc.uint8Array({ maxLength: 10 }), (at, noise) => {
      const changed = Buffer.concat([bytes.subarray(0, at), noise, bytes.subarray(at + 3)]);
      try {
        encodeTag(decodeTag(changed));
      } catch (error) {
        assert.ok(error instanceof OsrError && error.code === "INPUT_INVALID", String(error));
      }
    }),
    { numRuns: 500 },
  );
});

test("a tag has a size for each of its disks, or none", () => {
  const [tag] = fc.sample(tags, { numRuns: 1, seed: 3 });
  assert.ok(tag !== undefined);
  const sized = { ...tag, disks: [uuidOfName("a"), uuidOfName("b")], diskBytes: [4096, 8192] };
  assert.deepEqual(decodeTag(encodeTag(sized)), sized);
  for (const diskBytes of [[], [4096], [1, 2, 3], [4096, 100]])
    assert.throws(() => decodeTag(encodeTag({ ...sized, diskBytes })), { code: "INPUT_INVALID" });
});

test("a tag names at most as many disks as a group may have", () => {
  const [tag] = fc.sample(tags, 1);
  assert.ok(tag !== undefined);
  const disks = Array.from({ length: TAG_DISKS_MAX + 1 }, (_, i) => uuidOfName(String(i)));
  assert.throws(() => decodeTag(encodeTag({ ...tag, disks })), { code: "INPUT_INVALID" });
});

test("slots follow the clock, and grow where it goes back", () => {
  const noon = 1_700_000_000_000;
  const slot = Math.floor(noon / 1000 / SLOT_SECONDS);
  assert.equal(nextSlot(-1, noon), slot);
  assert.equal(nextSlot(slot, noon), slot + 1);
  assert.equal(nextSlot(slot, noon - 86_400_000), slot + 1);
  assert.equal(nextSlot(slot, noon + SLOT_SECONDS * 1000), slot + 1);
  assert.equal(nextSlot(slot, noon + 10 * SLOT_SECONDS * 1000), slot + 10);
});

test("hrl/v1: golden tag", async () => {
  const bytes = await readFile(join(import.meta.dirname, "../../../interop/hrl/v1/tag.bin"));
  const tag = decodeTag(bytes);
  assert.deepEqual(
    [tag.slot, tag.class, tag.unixMs, tag.groupId, tag.cutId, ...tag.disks],
    [
      113_333_333,
      "crash",
      1_700_000_000_000,
      uuidOfName("golden", "group"),
      uuidOfName("golden", "cut"),
      uuidOfName("golden", "disk"),
    ],
  );
  assert.ok(encodeTag(tag).equals(bytes));
});
