import { createCipheriv, createHash } from "node:crypto";

const UINT32_VALUES = 2 ** 32;

/**
 * Random bytes and numbers that are the same for the same seed, on every machine: the key stream of AES-256 in counter mode
 * under the SHA-256 of the seed. As incompressible as what it stands for, and faster than the disks it goes to.
 */
export class SeededBytes {
  readonly #cipher: ReturnType<typeof createCipheriv>;

  constructor(seed: string) {
    const key = createHash("sha256").update(seed).digest();
    this.#cipher = createCipheriv("aes-256-ctr", key, Buffer.alloc(16));
  }

  bytes(count: number): Buffer {
    return this.#cipher.update(Buffer.alloc(count));
  }

  /** A whole number of [0, end); `end` is at most 2^32. */
  below(end: number): number {
    return Math.floor((this.bytes(4).readUInt32LE() / UINT32_VALUES) * end);
  }
}
