import { read as readWithCallback } from "node:fs";
import { type FileHandle, mkdir, open } from "node:fs/promises";
import { dirname } from "node:path";
import { promisify } from "node:util";

import { assert } from "@osr/base/assert";
import { type ErrorInfo, OsrError, messageOf, systemErrorCode } from "@osr/base/errors";

import { STORE_ERRORS } from "./object-store.ts";

const FULL_CODES: ReadonlySet<string | undefined> = new Set(["ENOSPC", "EDQUOT"]);
const FORBIDDEN_CODES: ReadonlySet<string | undefined> = new Set(["EACCES", "EPERM", "EROFS"]);
/** Also ENOTDIR: a part of the name is an object. */
const MISSING_CODES: ReadonlySet<string | undefined> = new Set(["ENOENT", "ENOTDIR"]);

const read = promisify(readWithCallback);

/** The result of a call of the file system; its errors become those of the port. */
export async function onDisk<T>(call: Promise<T>): Promise<T> {
  try {
    return await call;
  } catch (cause) {
    throw diskErrorOf(cause, STORE_ERRORS.STORE_UNAVAILABLE);
  }
}

/** The port's error for one of the file system's. */
export function diskErrorOf(cause: unknown, ifMissing: ErrorInfo): OsrError {
  const code = systemErrorCode(cause);
  const info = MISSING_CODES.has(code)
    ? ifMissing
    : FULL_CODES.has(code)
      ? STORE_ERRORS.STORE_FULL
      : FORBIDDEN_CODES.has(code)
        ? STORE_ERRORS.STORE_FORBIDDEN
        : STORE_ERRORS.STORE_UNAVAILABLE;
  return new OsrError(info, messageOf(cause), { cause });
}

/** Makes the entries of a directory durable. */
export async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Makes `path` and what is missing above it, durably. */
export async function makeDirectory(path: string): Promise<void> {
  const first = await mkdir(path, { recursive: true, mode: 0o700 });
  if (first === undefined) return;
  for (let made = path; ; made = dirname(made)) {
    await syncDirectory(dirname(made));
    if (made === first) return;
    assert(made !== dirname(made), "the first directory that was made is above the last");
  }
}

/** Fills `target` from `position`; false where the file ends first. */
export async function readFully(
  fd: number,
  target: Uint8Array,
  position: number,
): Promise<boolean> {
  for (let filled = 0; filled < target.byteLength;) {
    const bytes = target.byteLength - filled;
    const { bytesRead } = await read(fd, target, filled, bytes, position + filled);
    if (bytesRead === 0) return false;
    filled += bytesRead;
  }
  return true;
}

/** Writes all of `bytes` at `position`. */
export async function writeFully(
  handle: FileHandle,
  bytes: Uint8Array,
  position: number,
): Promise<void> {
  for (let written = 0; written < bytes.byteLength;) {
    const { bytesWritten } = await handle.write(
      bytes,
      written,
      bytes.byteLength - written,
      position + written,
    );
    written += bytesWritten;
  }
}
