import assert from "node:assert/strict";
import { test } from "node:test";

import { systemRandomness } from "./platform/system-randomness.ts";
import { isUuid, randomUuid, uuid, uuidFromBytes, uuidOfName, uuidToBytes } from "./uuid.ts";

test("bytes and text of a UUID are the same thing", () => {
  const value = randomUuid(systemRandomness);
  assert.equal(uuidFromBytes(uuidToBytes(value)), value);
  assert.match(value, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab]/);
});

test("the UUID of a name depends on every part and on where parts end", () => {
  const one = uuidOfName("disk", "a", "bc");
  assert.equal(uuidOfName("disk", "a", "bc"), one);
  assert.notEqual(uuidOfName("disk", "ab", "c"), one);
  assert.match(one, /^[0-9a-f]{8}-[0-9a-f]{4}-8/);
});

test("what is no UUID is told", () => {
  for (const text of [
    "",
    "x",
    "00000000-0000-4000-8000-00000000000",
    7,
    undefined,
    "A0000000-0000-4000-8000-000000000000",
  ])
    assert.equal(isUuid(text), false);
  assert.equal(
    uuid("A0000000-0000-4000-8000-000000000000"),
    "a0000000-0000-4000-8000-000000000000",
  );
  assert.throws(() => uuid("no"), { code: "INTERNAL_ASSERTION" });
});
