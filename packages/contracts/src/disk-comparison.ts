import { type KeyObject, createHmac, createSecretKey } from "node:crypto";

import { assert } from "@osr/base/assert";
import { BLOCK_BYTES } from "@osr/base/block-range";
import { MIB } from "@osr/base/units";

/** Disks are compared in granules of this size; the last one is padded with zeros. */
export const GRANULE_BYTES = MIB;
export const GRANULE_BLOCKS = GRANULE_BYTES / BLOCK_BYTES;
/** HMAC-SHA256, cut off. */
export const COMPARISON_HASH_BYTES = 16;
/** Granules whose hashes one request may ask for. */
export const GRANULES_PER_REQUEST_MAX = 64;
export const COMPARISON_KEY_BYTES = 32;

/** Granules of a disk of that size. */
export function granulesOf(sizeBytes: number): number {
  return Math.ceil(sizeBytes / GRANULE_BYTES);
}

/**
 * The hashes by which agent and process server compare a disk: docs/formats/agent-protocol.md, Comparison. Keyed, so that
 * who sees them cannot look for known content, and different for each head.
 */
export class ComparisonHasher {
  readonly zeroGranule: Buffer;
  readonly zeroBlock: Buffer;
  readonly #key: KeyObject;

  constructor(key: Buffer) {
    assert(key.length === COMPARISON_KEY_BYTES, "a comparison key has 32 bytes");
    this.#key = createSecretKey(key);
    this.zeroGranule = this.#hash(Buffer.alloc(GRANULE_BYTES));
    this.zeroBlock = this.#hash(Buffer.alloc(BLOCK_BYTES));
  }

  /** Hash of a whole granule. */
  granule(bytes: Buffer): Buffer {
    assert(bytes.length === GRANULE_BYTES, "a granule is hashed with its padding");
    return this.#hash(bytes);
  }

  /** Hashes of the 256 blocks of a granule, one after the other. */
  blocks(bytes: Buffer): Buffer {
    assert(bytes.length === GRANULE_BYTES, "a granule is hashed with its padding");
    const hashes = Buffer.allocUnsafe(GRANULE_BLOCKS * COMPARISON_HASH_BYTES);
    for (let block = 0; block < GRANULE_BLOCKS; block++)
      this.#hash(bytes.subarray(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES)).copy(
        hashes,
        block * COMPARISON_HASH_BYTES,
      );
    return hashes;
  }

  #hash(bytes: Buffer): Buffer {
    const digest = createHmac("sha256", this.#key).update(bytes).digest();
    return digest.subarray(0, COMPARISON_HASH_BYTES);
  }
}
