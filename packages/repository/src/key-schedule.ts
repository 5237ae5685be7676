import { hkdfSync } from "node:crypto";

import { assert } from "@osr/base/assert";
import { type Uuid, uuidToBytes } from "@osr/base/uuid";

/** Every key has this many bytes. docs/formats/object.md, Keys. */
export const KEY_BYTES = 32;

/** A data key: one for each disk and version. In memory only. */
export type DataKey = { readonly diskId: Uuid; readonly version: number; readonly bytes: Buffer };

/** Encrypts the frames of one object. */
export function frameKeyOf(dataKey: DataKey, objectId: Uuid): Buffer {
  return derive(dataKey.bytes, uuidToBytes(objectId), "osr1|frame");
}

/** From it come the index keys of a disk; whoever has only this reads indexes and no data. */
export function indexRootOf(dataKey: DataKey): Buffer {
  return derive(dataKey.bytes, NO_SALT, "osr1|index-root");
}

/** Encrypts the index of one object. */
export function indexKeyOf(indexRoot: Buffer, objectId: Uuid): Buffer {
  return derive(indexRoot, uuidToBytes(objectId), "osr1|index");
}

/** Signs the descriptors of a disk. */
export function descriptorKeyOf(indexRoot: Buffer): Buffer {
  return derive(indexRoot, NO_SALT, "osr1|disk-descriptor");
}

/** Keys the hashes by which a disk is compared with its log at `head`; it goes to the agent. */
export function comparisonKeyOf(dataKey: DataKey, head: Buffer): Buffer {
  return derive(dataKey.bytes, head, "osr1|compare");
}

/** Signs the recovery points of a replication group. */
export function groupKeyOf(vaultKey: Buffer, groupId: Uuid): Buffer {
  return derive(vaultKey, NO_SALT, `osr1|group|${groupId}`);
}

/** The seed of the Ed25519 key that signs claim grants (claim-grant.ts). */
export function grantSeedOf(vaultKey: Buffer): Buffer {
  return derive(vaultKey, NO_SALT, "osr1|grant");
}

/** Wraps one version of the data key of a disk. */
export function wrappingKeyOf(vaultKey: Buffer, diskId: Uuid, version: number): Buffer {
  return derive(vaultKey, uuidToBytes(diskId), `osr1|wrap|${version}`);
}

/** Seals the state of a vault. */
export function sealingKeyOf(vaultKey: Buffer, vaultId: Uuid): Buffer {
  return derive(vaultKey, uuidToBytes(vaultId), "osr1|sealed-state");
}

const NO_SALT = Buffer.alloc(0);

function derive(input: Buffer, salt: Buffer, info: string): Buffer {
  assert(input.length === KEY_BYTES, `a key has ${KEY_BYTES} bytes`);
  return Buffer.from(hkdfSync("sha256", input, salt, info, KEY_BYTES));
}
