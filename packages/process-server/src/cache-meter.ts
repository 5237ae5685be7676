import { readdir, stat, statfs } from "node:fs/promises";
import { join } from "node:path";

import { OsrError, systemErrorCode } from "@osr/base/errors";

import {
  CACHE_FULL_RETRY_MS,
  type CacheLevel,
  type FileSystemSpace,
  cacheLevelOf,
  delayMsOf,
  freeShareOf,
} from "./cache-ladder.ts";
import { PROCESS_SERVER_ERRORS } from "./process-server-errors.ts";

/**
 * How full the cache is. Bytes of `.seg` files are counted as they come and go; journals, about a hundredth of them, are
 * not. The file system is asked now and then by `refresh`.
 */
export class CacheMeter {
  readonly #folder: string;
  readonly #limitBytes: number;
  #usedBytes = 0;
  /** Used bytes when the file system was asked. */
  #usedThen = 0;
  #space: FileSystemSpace = { sizeBytes: 0, availableBytes: 0 };

  private constructor(folder: string, limitBytes: number) {
    this.#folder = folder;
    this.#limitBytes = limitBytes;
  }

  /** Counts what is in the folder, which must exist. */
  static async open(folder: string, limitBytes: number): Promise<CacheMeter> {
    const meter = new CacheMeter(folder, limitBytes);
    for (const name of await readdir(folder, { recursive: true })) {
      if (!name.endsWith(".seg")) continue;
      const info = await stat(join(folder, name)).catch(ignoreMissing);
      if (info?.isFile() === true) meter.#usedBytes += info.size;
    }
    await meter.refresh();
    return meter;
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** Bytes were added to the spool, or (negative) removed from it. */
  add(bytes: number): void {
    this.#usedBytes = Math.max(0, this.#usedBytes + bytes);
  }

  async refresh(): Promise<void> {
    const { blocks, bavail, bsize } = await statfs(this.#folder);
    this.#space = { sizeBytes: blocks * bsize, availableBytes: bavail * bsize };
    this.#usedThen = this.#usedBytes;
  }

  get freeShare(): number {
    const { sizeBytes, availableBytes } = this.#space;
    const since = this.#usedBytes - this.#usedThen;
    const space = { sizeBytes, availableBytes: availableBytes - since };
    return freeShareOf(space, { limitBytes: this.#limitBytes, usedBytes: this.#usedBytes });
  }

  get level(): CacheLevel {
    return cacheLevelOf(this.freeShare);
  }

  get delayMs(): number {
    return delayMsOf(this.freeShare);
  }

  /** Throws CACHE_FULL below the throttle. */
  checkRoom(): void {
    if (this.level === "throttled")
      throw cacheFull(`only ${(this.freeShare * 100).toFixed(1)} % of the cache are free`);
  }
}

export function cacheFull(message: string, cause?: unknown): OsrError {
  return new OsrError(PROCESS_SERVER_ERRORS.CACHE_FULL, message, {
    cause,
    details: { retryAfterMs: CACHE_FULL_RETRY_MS },
  });
}

function ignoreMissing(error: unknown): undefined {
  if (systemErrorCode(error) === "ENOENT") return undefined;
  throw error;
}
