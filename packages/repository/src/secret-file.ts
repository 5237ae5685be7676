import { statSync } from "node:fs";
import { readFile } from "node:fs/promises";

import { KIB } from "@osr/base/units";

const SECRET_BYTES_MAX = 256 * KIB;

/** A secret in a file, read again when the file has changed, so that it can be renewed under a running role. */
export class SecretFile {
  readonly path: string;
  #version = "";
  #text = "";

  constructor(path: string) {
    this.path = path;
  }

  /** The text without white space at its ends. Rejects with the system error where the file cannot be read. */
  async read(): Promise<string> {
    // Every request asks. What the system has in memory takes microseconds; the way to a thread of the pool and back, which a
    // small read from the storage account would wait for, twenty times that.
    const { ino, size, mtimeMs } = statSync(this.path);
    const version = `${ino} ${size} ${mtimeMs}`;
    if (version === this.#version) return this.#text;
    if (size > SECRET_BYTES_MAX) throw new RangeError(`${this.path} is too long for a secret`);
    this.#text = (await readFile(this.path, "utf8")).trim();
    this.#version = version;
    return this.#text;
  }
}
