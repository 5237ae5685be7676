import assert from "node:assert/strict";
import { test } from "node:test";

import { OsrError } from "@osr/base/errors";
import { systemRandomness } from "@osr/base/platform/system-randomness";

import { Sealing } from "./sealing.ts";
import { parseSiteSecret, siteKeysOf } from "./site-keys.ts";

const foreign = (error: unknown): boolean =>
  error instanceof OsrError && error.code === "STATE_FOREIGN";

test("what is sealed opens with the same secret at the same place, unchanged, and nowhere else", () => {
  const secret = parseSiteSecret(`${"5a".repeat(32)}\n`);
  const sealing = new Sealing(siteKeysOf(secret).stateKey, systemRandomness);
  const sealed = sealing.seal("a", "größe");
  assert.equal(sealing.open("a", sealed), "größe");
  assert.throws(() => sealing.open("b", sealed), foreign);
  const other = new Sealing(siteKeysOf(Buffer.alloc(32)).stateKey, systemRandomness);
  assert.throws(() => other.open("a", sealed), foreign);
  for (let at = 0; at < sealed.length; at++) {
    const changed = Buffer.from(sealed);
    changed[at] = (changed[at] ?? 0) ^ 1;
    assert.throws(() => sealing.open("a", changed), foreign);
    assert.throws(() => sealing.open("a", sealed.subarray(0, at)), foreign);
  }
  for (const text of ["", "5a", "xy".repeat(32)])
    assert.throws(
      () => parseSiteSecret(text),
      (error) => error instanceof OsrError && error.code === "SITE_SECRET_INVALID",
    );
});
