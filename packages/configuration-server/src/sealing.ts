import { createCipheriv, createDecipheriv } from "node:crypto";

import { OsrError } from "@osr/base/errors";
import type { Randomness } from "@osr/base/randomness";

import { CONFIGURATION_SERVER_ERRORS } from "./configuration-server-errors.ts";

const NONCE_BYTES = 12;
const TAG_BYTES = 16;

/** Encrypts what must not be read from the state's files: AES-256-GCM, bound to the place where it stands. */
export class Sealing {
  readonly #key: Buffer;
  readonly #randomness: Randomness;

  constructor(key: Buffer, randomness: Randomness) {
    this.#key = key;
    this.#randomness = randomness;
  }

  seal(place: string, plain: string): Buffer {
    const nonce = this.#randomness.bytes(NONCE_BYTES);
    const cipher = createCipheriv("aes-256-gcm", this.#key, nonce).setAAD(Buffer.from(place));
    const parts = [nonce, cipher.update(plain, "utf8"), cipher.final()];
    return Buffer.concat([...parts, cipher.getAuthTag()]);
  }

  /** Throws STATE_FOREIGN where it was sealed with another secret, for another place, or was changed. */
  open(place: string, sealed: Uint8Array): string {
    const bytes = Buffer.from(sealed);
    try {
      const decipher = createDecipheriv("aes-256-gcm", this.#key, bytes.subarray(0, NONCE_BYTES), {
        authTagLength: TAG_BYTES,
      });
      decipher.setAAD(Buffer.from(place));
      decipher.setAuthTag(bytes.subarray(-TAG_BYTES));
      const body = decipher.update(bytes.subarray(NONCE_BYTES, -TAG_BYTES));
      return Buffer.concat([body, decipher.final()]).toString("utf8");
    } catch (cause) {
      throw new OsrError(
        CONFIGURATION_SERVER_ERRORS.STATE_FOREIGN,
        `${place} of the state does not open with the site secret`,
        { cause },
      );
    }
  }
}
