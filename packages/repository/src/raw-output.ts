import { constants } from "node:fs";
import { type FileHandle, link, open, rm, stat } from "node:fs/promises";
import { dirname } from "node:path";

import { OsrError, systemErrorCode } from "@osr/base/errors";
import { MIB } from "@osr/base/units";

import { EarlySync } from "./early-sync.ts";
import { REPOSITORY_ERRORS } from "./repository-errors.ts";

const ZEROS = Buffer.alloc(MIB);

/**
 * Where a raw disk image is written: a new sparse file, or a block device. A file gets its name only when it is complete:
 * until then it is `<path>.partial`, which a later run replaces. A device is written in place; a run that was cut is
 * repeated as a whole.
 */
export type RawOutput = AsyncDisposable & {
  readonly fd: number;
  /** Makes a range read as zeros. */
  zero(offset: number, bytes: number): Promise<void>;
  /** Says that `bytes` more were written to `fd`: they are brought to the disk while others are made. */
  wrote(bytes: number): void;
  /** Makes all that was written durable and, for a file, gives it its name. */
  complete(): Promise<void>;
};

/** Throws OUTPUT_EXISTS, OUTPUT_TOO_SMALL, and system errors. */
export async function openRawOutput(path: string, sizeBytes: number): Promise<RawOutput> {
  const existing = await stat(path).catch((error: unknown) => {
    if (systemErrorCode(error) === "ENOENT") return undefined;
    throw error;
  });
  if (existing?.isBlockDevice() === true) return openDevice(path, sizeBytes);
  if (existing !== undefined) exists(path);
  return openFile(path, sizeBytes);
}

async function openDevice(path: string, sizeBytes: number): Promise<RawOutput> {
  // O_EXCL on a block device: refused while it is mounted or used by another layer.
  const file = await open(path, constants.O_RDWR | constants.O_EXCL);
  const last = await file.read(Buffer.alloc(1), 0, 1, sizeBytes - 1);
  if (last.bytesRead === 0) {
    await file.close();
    throw new OsrError(
      REPOSITORY_ERRORS.OUTPUT_TOO_SMALL,
      `${path} is smaller than the disk, which has ${sizeBytes} bytes`,
    );
  }
  const early = new EarlySync(file);
  return {
    fd: file.fd,
    zero: (offset, bytes) => writeZeros(file, offset, bytes),
    wrote: (bytes) => early.wrote(bytes),
    complete: () => early.complete(),
    async [Symbol.asyncDispose]() {
      await early[Symbol.asyncDispose]();
      await file.close();
    },
  };
}

async function openFile(path: string, sizeBytes: number): Promise<RawOutput> {
  const partial = `${path}.partial`;
  await rm(partial, { force: true });
  const file = await open(partial, "wx", 0o600);
  const { ino } = await file.stat();
  await file.truncate(sizeBytes);
  const early = new EarlySync(file);
  return {
    fd: file.fd,
    // A new file reads as zeros where nothing was written.
    zero: () => Promise.resolve(),
    wrote: (bytes) => early.wrote(bytes),
    async complete() {
      await early.complete();
      // Another run may have replaced the file: then the name is not ours to give.
      const named = await stat(partial).catch(() => undefined);
      if (named?.ino !== ino) exists(path);
      await link(partial, path).catch((error: unknown) => {
        if (systemErrorCode(error) === "EEXIST") exists(path);
        throw error;
      });
      await using directory = await open(dirname(path), "r");
      await directory.sync();
    },
    async [Symbol.asyncDispose]() {
      await early[Symbol.asyncDispose]();
      await file.close();
      const named = await stat(partial).catch(() => undefined);
      if (named?.ino === ino) await rm(partial, { force: true });
    },
  };
}

async function writeZeros(file: FileHandle, offset: number, bytes: number): Promise<void> {
  for (let done = 0; done < bytes;) {
    const piece = ZEROS.subarray(0, Math.min(ZEROS.length, bytes - done));
    done += (await file.write(piece, 0, piece.length, offset + done)).bytesWritten;
  }
}

function exists(path: string): never {
  throw new OsrError(REPOSITORY_ERRORS.OUTPUT_EXISTS, `${path} exists already`);
}
