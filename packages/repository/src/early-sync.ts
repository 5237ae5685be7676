import type { FileHandle } from "node:fs/promises";

import { MIB } from "@osr/base/units";

/** Written and not yet synced, from which on a sync begins. */
const UNSYNCED_BYTES_MIN = 32 * MIB;

type Syncable = Pick<FileHandle, "datasync" | "sync">;

/**
 * Brings a file to the disk while it is still being written: left to itself the system waits, and the sync at the end takes as
 * long as all the disk has to write. Measured, 1.1 GiB: 3.7 seconds instead of 4.7 from the start to the end of a restore.
 */
export class EarlySync implements AsyncDisposable {
  readonly #file: Syncable;
  #unsyncedBytes = 0;
  #running: Promise<void> | undefined;
  #failure: unknown;

  constructor(file: Syncable) {
    this.#file = file;
  }

  /** `bytes` more were written. One sync is under way at the most. */
  wrote(bytes: number): void {
    this.#unsyncedBytes += bytes;
    if (this.#unsyncedBytes < UNSYNCED_BYTES_MIN || this.#running !== undefined) return;
    this.#unsyncedBytes = 0;
    this.#running = this.#file
      .datasync()
      // The system tells of a lost write once: a later sync would succeed.
      .catch((error: unknown) => void (this.#failure ??= error))
      .finally(() => (this.#running = undefined));
  }

  /** Makes everything durable. Throws the system's error where this sync failed, or one before it. */
  async complete(): Promise<void> {
    await this.#running;
    if (this.#failure !== undefined) throw this.#failure;
    await this.#file.sync();
  }

  /** Resolves when the file may be closed. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#running;
  }
}
