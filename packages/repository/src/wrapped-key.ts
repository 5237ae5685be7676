import { createCipheriv, createDecipheriv } from "node:crypto";

import { assert } from "@osr/base/assert";
import { canonicalJson } from "@osr/base/canonical-json";
import { OsrError, hasCode } from "@osr/base/errors";
import { KIB } from "@osr/base/units";
import type { Randomness } from "@osr/base/randomness";
import type { Uuid } from "@osr/base/uuid";

import { type DataKey, KEY_BYTES, wrappingKeyOf } from "./key-schedule.ts";
import { wrappedKeyName } from "./object-names.ts";
import { type ObjectStore, STORE_ERRORS, bodyOf } from "./object-store.ts";
import { REPOSITORY_ERRORS } from "./repository-errors.ts";
import { parseCanonicalObject, readSmallObject } from "./small-object.ts";

/** A wrapped key object is at most this long. */
export const WRAPPED_KEY_BYTES_MAX = 2 * KIB;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const VERSION_FIRST = 1;

/** Which data key, and the vault key that wraps it. */
export type WrappedKeyId = {
  readonly vaultId: Uuid;
  readonly vaultKey: Buffer;
  readonly diskId: Uuid;
};

/** The object that holds `dataKey` wrapped. `nonce`: 12 random bytes, used for nothing else. */
export function wrapDataKey(dataKey: DataKey, id: WrappedKeyId, nonce: Buffer): Buffer {
  assert(dataKey.diskId === id.diskId, "a data key belongs to one disk");
  assert(
    dataKey.bytes.length === KEY_BYTES && nonce.length === NONCE_BYTES,
    "key and nonce lengths",
  );
  const { diskId, version } = dataKey;
  const cipher = createCipheriv(
    "aes-256-gcm",
    wrappingKeyOf(id.vaultKey, diskId, version),
    nonce,
  ).setAAD(Buffer.from(wrappedKeyName(id.vaultId, diskId, version), "utf8"));
  const ciphertext = cipher.update(dataKey.bytes);
  cipher.final();
  const fields = {
    format: 1,
    diskId,
    version,
    nonce: nonce.toString("hex"),
    ciphertext: ciphertext.toString("hex"),
    tag: cipher.getAuthTag().toString("hex"),
  };
  return Buffer.from(canonicalJson(fields), "utf8");
}

/** Opens a wrapped key. Throws KEY_INVALID, FORMAT_NEWER, or KEY_UNAUTHENTIC (wrong vault key, or changed bytes). */
export function unwrapDataKey(object: Buffer, id: WrappedKeyId, version: number): DataKey {
  const fields = parseCanonicalObject(object, REPOSITORY_ERRORS.KEY_INVALID);
  if (fields["diskId"] !== id.diskId || fields["version"] !== version)
    throw new OsrError(
      REPOSITORY_ERRORS.OBJECT_MISPLACED,
      `the wrapped key is not version ${version} of disk ${id.diskId}`,
    );
  const nonce = hexField(fields, "nonce", NONCE_BYTES);
  const ciphertext = hexField(fields, "ciphertext", KEY_BYTES);
  const tag = hexField(fields, "tag", TAG_BYTES);
  const decipher = createDecipheriv(
    "aes-256-gcm",
    wrappingKeyOf(id.vaultKey, id.diskId, version),
    nonce,
  )
    .setAAD(Buffer.from(wrappedKeyName(id.vaultId, id.diskId, version), "utf8"))
    .setAuthTag(tag);
  const bytes = decipher.update(ciphertext);
  try {
    decipher.final();
  } catch (cause) {
    throw new OsrError(
      REPOSITORY_ERRORS.KEY_UNAUTHENTIC,
      `version ${version} of the data key of disk ${id.diskId} does not open`,
      { cause },
    );
  }
  return { diskId: id.diskId, version, bytes };
}

/** Reads one version of a data key. Throws OBJECT_NOT_FOUND and what unwrapDataKey throws. */
export async function readDataKey(
  store: ObjectStore,
  id: WrappedKeyId,
  version: number = VERSION_FIRST,
  signal?: AbortSignal,
): Promise<DataKey> {
  const name = wrappedKeyName(id.vaultId, id.diskId, version);
  const object = await readSmallObject(store, name, WRAPPED_KEY_BYTES_MAX, signal);
  return unwrapDataKey(object, id, version);
}

/** The first data key of a disk; makes it where there is none. Of several callers all get the same key. */
export async function ensureDataKey(
  store: ObjectStore,
  options: WrappedKeyId & { readonly randomness: Randomness; readonly signal?: AbortSignal },
): Promise<DataKey> {
  const { signal, randomness, diskId } = options;
  try {
    return await readDataKey(store, options, VERSION_FIRST, signal);
  } catch (error) {
    if (!hasCode(error, STORE_ERRORS.OBJECT_NOT_FOUND)) throw error;
  }
  const fresh = { diskId, version: VERSION_FIRST, bytes: randomness.bytes(KEY_BYTES) };
  const object = wrapDataKey(fresh, options, randomness.bytes(NONCE_BYTES));
  const name = wrappedKeyName(options.vaultId, diskId, VERSION_FIRST);
  try {
    await store.create(name, bodyOf(object), signal === undefined ? {} : { signal });
  } catch (error) {
    if (!hasCode(error, STORE_ERRORS.OBJECT_EXISTS)) throw error;
  }
  // Read back also what was just created: data must never be encrypted with a key that is not there.
  return readDataKey(store, options, VERSION_FIRST, signal);
}

function hexField(fields: Record<string, unknown>, name: string, bytes: number): Buffer {
  const value = fields[name];
  if (typeof value !== "string" || !new RegExp(`^[0-9a-f]{${bytes * 2}}$`).test(value))
    throw new OsrError(REPOSITORY_ERRORS.KEY_INVALID, `${name} must be ${bytes} bytes in hex`);
  return Buffer.from(value, "hex");
}
