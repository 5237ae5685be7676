import fs from "node:fs";

import { assert } from "@osr/base/assert";
import { BLOCK_BYTES } from "@osr/base/block-range";
import { OsrError, messageOf } from "@osr/base/errors";
import { WaitingLine } from "@osr/base/waiting-line";

import { ALIGNMENT_BYTES } from "./aligned-buffer.ts";
import { BLOCK_DEVICE_ERRORS } from "./block-device-errors.ts";
import type { DirectReader } from "./protected-disk.ts";

/**
 * Opens a disk for reading past the page cache. `sizeBytes` is the size that counts: what lies beyond it reads as zeros.
 * Throws the system error of `open`.
 */
export function openDirectReader(disk: {
  readonly path: string;
  readonly sizeBytes: number;
}): DirectReader {
  const fd = fs.openSync(disk.path, fs.constants.O_RDONLY | fs.constants.O_DIRECT);
  return new FileDirectReader(fd, disk.path, disk.sizeBytes);
}

/**
 * The kernel ends a read early at the end of the disk and before a sector that it cannot read; hence the loops. After an
 * error the rest of the range is read block by block, since one bad sector fails a whole request of up to 1 MiB.
 */
class FileDirectReader implements DirectReader {
  readonly sizeBytes: number;
  readonly #fd: number;
  readonly #path: string;
  /**
   * Calls of `read` under way. Not a set of them: each outgrown table of an old set keeps the next one alive until a full
   * collection, 10 MiB of garbage in a first copy of 64 GiB.
   */
  #reading = 0;
  readonly #idle = new WaitingLine();
  #closed = false;

  constructor(fd: number, path: string, sizeBytes: number) {
    this.#fd = fd;
    this.#path = path;
    this.sizeBytes = sizeBytes;
  }

  async read(offset: number, target: Buffer): Promise<void> {
    const bytes = this.#bytesWithin(offset, target);
    this.#reading += 1;
    try {
      await this.#fill(offset, target, bytes);
    } finally {
      this.#reading -= 1;
      if (this.#reading === 0) this.#idle.serve();
    }
  }

  readSync(offset: number, target: Buffer): void {
    const bytes = this.#bytesWithin(offset, target);
    let step = target.length;
    for (let filled = 0; filled < bytes;) {
      const length = Math.min(step, target.length - filled);
      try {
        const count = fs.readSync(this.#fd, target, filled, length, offset + filled);
        if (count === 0) throw new Error("the disk ends here");
        filled += count;
      } catch (cause) {
        if (step === BLOCK_BYTES) throw this.#unreadable(offset + filled, cause);
        step = BLOCK_BYTES;
      }
    }
    target.fill(0, bytes);
  }

  async #fill(offset: number, target: Buffer, bytes: number): Promise<void> {
    let step = target.length;
    for (let filled = 0; filled < bytes;) {
      const length = Math.min(step, target.length - filled);
      try {
        const count = await readAt(this.#fd, target, filled, length, offset + filled);
        if (count === 0) throw new Error("the disk ends here");
        filled += count;
      } catch (cause) {
        if (step === BLOCK_BYTES) throw this.#unreadable(offset + filled, cause);
        step = BLOCK_BYTES;
      }
    }
    target.fill(0, bytes);
  }

  #bytesWithin(offset: number, target: Buffer): number {
    assert(!this.#closed, "the disk is closed");
    assert(offset % ALIGNMENT_BYTES === 0, "reads start at a multiple of 4096");
    assert(target.length % ALIGNMENT_BYTES === 0, "reads are multiples of 4096 bytes");
    assert(target.byteOffset % ALIGNMENT_BYTES === 0, "reads need page-aligned memory");
    assert(offset >= 0 && offset < this.sizeBytes, "reads start within the disk");
    return Math.min(target.length, this.sizeBytes - offset);
  }

  #unreadable(offset: number, cause: unknown): OsrError {
    const block = Math.floor(offset / BLOCK_BYTES);
    return new OsrError(
      BLOCK_DEVICE_ERRORS.DISK_UNREADABLE,
      `${this.#path}: block ${block} cannot be read: ${messageOf(cause)}`,
      { cause, details: { path: this.#path, block } },
    );
  }

  /** Waits for the reads under way: their file descriptor must not be reused beneath them. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#reading > 0) await this.#idle.wait();
    fs.closeSync(this.#fd);
  }
}

function readAt(
  fd: number,
  target: Buffer,
  targetOffset: number,
  length: number,
  position: number,
): Promise<number> {
  return new Promise((resolve, reject) => {
    fs.read(fd, target, targetOffset, length, position, (error, count) => {
      if (error === null) resolve(count);
      else reject(error);
    });
  });
}
