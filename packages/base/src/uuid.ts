import { createHash } from "node:crypto";

import { assert } from "./assert.ts";
import type { Randomness } from "./randomness.ts";

/** A UUID in lower case with hyphens. */
export type Uuid = string & { readonly uuid: true };

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

export function isUuid(text: unknown): text is Uuid {
  return typeof text === "string" && UUID.test(text);
}

/** `text` as a UUID; capitals are accepted. Throws INTERNAL_ASSERTION: outside input is checked with isUuid first. */
export function uuid(text: string): Uuid {
  const lower = text.toLowerCase();
  assert(isUuid(lower), `not a UUID: ${text}`);
  return lower;
}

/** The 16 bytes of a UUID, in the order in which they are written. */
export function uuidToBytes(value: Uuid): Buffer {
  return Buffer.from(value.replaceAll("-", ""), "hex");
}

export function uuidFromBytes(bytes: Uint8Array): Uuid {
  assert(bytes.byteLength === 16, "a UUID has 16 bytes");
  const hex = Buffer.from(bytes.buffer, bytes.byteOffset, 16).toString("hex");
  return uuid(
    `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`,
  );
}

/** A random UUID, version 4. */
export function randomUuid(randomness: Randomness): Uuid {
  return stamped(randomness.bytes(16), 0x40);
}

/** The UUID of a name, version 8 (RFC 9562): the same parts give the same UUID, on every machine and in every run. */
export function uuidOfName(...parts: readonly string[]): Uuid {
  const digest = createHash("sha256").update(JSON.stringify(parts)).digest();
  return stamped(digest.subarray(0, 16), 0x80);
}

function stamped(bytes: Uint8Array, version: number): Uuid {
  const copy = Buffer.from(bytes);
  copy[6] = ((copy[6] ?? 0) & 0x0f) | version;
  copy[8] = ((copy[8] ?? 0) & 0x3f) | 0x80;
  return uuidFromBytes(copy);
}
