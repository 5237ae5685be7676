import assert from "node:assert/strict";
import { createCipheriv, randomBytes } from "node:crypto";
import { test } from "node:test";

import { CONTENT_MAC_KEY_BYTES, ContentMac } from "./content-mac.ts";

const KEY = randomBytes(CONTENT_MAC_KEY_BYTES);
const CONTENT = randomBytes(1_000_003);

function macOf(content: Buffer, pieceBytes: number): string {
  const mac = new ContentMac(KEY);
  for (let offset = 0; offset < content.length; offset += pieceBytes)
    mac.update(content.subarray(offset, offset + pieceBytes));
  return mac.digest().toString("hex");
}

test("it is GMAC of the whole content, whatever the pieces", () => {
  const cipher = createCipheriv("aes-256-gcm", KEY, Buffer.alloc(12));
  cipher.setAAD(CONTENT);
  cipher.final();
  const expected = cipher.getAuthTag().toString("hex");
  for (const pieceBytes of [CONTENT.length, 70_001, 4096, 1000])
    assert.equal(macOf(CONTENT, pieceBytes), expected, `pieces of ${pieceBytes}`);
});

test("any bit, and any bytes that are missing, change it", () => {
  const expected = macOf(CONTENT, 4096);
  for (const at of [0, 4095, 4096, 500_000, CONTENT.length - 1]) {
    const other = Buffer.from(CONTENT);
    other[at]! ^= 0x10;
    assert.notEqual(macOf(other, 4096), expected, `byte ${at}`);
  }
  assert.notEqual(macOf(CONTENT.subarray(0, -1), 4096), expected);
});
