import assert from "node:assert/strict";
import { test } from "node:test";

import * as fc from "fast-check";

import { systemRandomness } from "@osr/base/platform/system-randomness";
import { uuidOfName } from "@osr/base/uuid";

import { STORE_ERRORS } from "./object-store.ts";
import { REPOSITORY_ERRORS } from "./repository-errors.ts";
import { assertCoded, coded } from "./testing/coded-error.ts";
import { temporaryStore } from "./testing/temporary-store.ts";
import { ensureDataKey, readDataKey, unwrapDataKey, wrapDataKey } from "./wrapped-key.ts";

const E = REPOSITORY_ERRORS;
const id = {
  vaultId: uuidOfName("vault"),
  vaultKey: Buffer.alloc(32, 5),
  diskId: uuidOfName("disk"),
};
const dataKey = { diskId: id.diskId, version: 1, bytes: Buffer.alloc(32, 6) };

test("a disk has one first data key, whoever asks first", async () => {
  await using at = await temporaryStore();
  await assert.rejects(readDataKey(at.store, id), coded(STORE_ERRORS.OBJECT_NOT_FOUND));
  const options = { ...id, randomness: systemRandomness };
  const keys = await Promise.all(Array.from({ length: 5 }, () => ensureDataKey(at.store, options)));
  assert.equal(new Set(keys.map(({ bytes }) => bytes.toString("hex"))).size, 1);
  assert.deepEqual(await readDataKey(at.store, id), keys[0]);
  const wrong = { ...id, vaultKey: Buffer.alloc(32) };
  await assert.rejects(readDataKey(at.store, wrong), coded(E.KEY_UNAUTHENTIC));
});

test("a wrapped key opens only as the version and disk for which it was made", () => {
  const object = wrapDataKey(dataKey, id, Buffer.alloc(12, 1));
  assert.deepEqual(unwrapDataKey(object, id, 1), dataKey);
  assert.throws(() => unwrapDataKey(object, id, 2), coded(E.OBJECT_MISPLACED));
  const other = { ...id, diskId: uuidOfName("other") };
  assert.throws(() => unwrapDataKey(object, other, 1), coded(E.OBJECT_MISPLACED));
  const moved = { ...id, vaultId: uuidOfName("other vault") };
  assert.throws(() => unwrapDataKey(object, moved, 1), coded(E.KEY_UNAUTHENTIC));
});

test("any other bytes are refused", () => {
  const object = wrapDataKey(dataKey, id, Buffer.alloc(12, 1));
  fc.assert(
    fc.property(
      fc.nat(object.length - 1),
      fc.uint8Array({ maxLength: 6 }),
      fc.nat(6),
      (at, noise, cut) => {
        const changed = Buffer.concat([object.subarray(0, at), noise, object.subarray(at + cut)]);
        if (changed.equals(object)) return;
        try {
          unwrapDataKey(changed, id, 1);
        } catch (error) {
          return assertCoded(error);
        }
        assert.fail(`accepted: ${changed.toString()}`);
      },
    ),
    { numRuns: 500 },
  );
});
