import fs from "node:fs";

import { OsrError } from "@osr/base/errors";

import { BLOCK_DEVICE_ERRORS } from "./block-device-errors.ts";
import { foreignFunctions, mapShared } from "./foreign-functions.ts";

const TMPFS_MAGIC = 0x01021994;
const ZEROS = Buffer.alloc(1024 * 1024);

export interface MappedMemory extends Disposable {
  readonly buffer: ArrayBuffer;
  /** Fills bytes with zeros, so that there is memory for them. False where there is none left. */
  reserve(offset: number, bytes: number): boolean;
}

/**
 * A file of tmpfs as memory: what is written to it is there for whoever maps it next, also after this process is killed,
 * and is gone with a reboot. Only what is written to takes memory. Reading and writing it never touches a disk. Throws
 * MEMORY_UNAVAILABLE where the file is not in tmpfs, or Node was started without --experimental-ffi.
 */
export function mapMemory(file: string, bytes: number): MappedMemory {
  const fd = fs.openSync(file, fs.constants.O_RDWR | fs.constants.O_CREAT, 0o600);
  try {
    const { type } = fs.statfsSync(file);
    if (type !== TMPFS_MAGIC) throw unavailable(`${file} is not in a tmpfs`);
    if (fs.fstatSync(fd).size !== bytes) {
      // Of another layout.
      fs.ftruncateSync(fd, 0);
      fs.ftruncateSync(fd, bytes);
    }
    const buffer = map(fd, bytes);
    return {
      buffer,
      reserve: (offset, count) => reserve(fd, offset, count),
      // The mapping itself ends with the process: views of it may be in use.
      [Symbol.dispose]: () => fs.closeSync(fd),
    };
  } catch (error) {
    fs.closeSync(fd);
    throw error;
  }
}

/** Writing through the file fails where memory is short; writing through the mapping would end the process. */
function reserve(fd: number, offset: number, bytes: number): boolean {
  try {
    for (let done = 0; done < bytes;)
      done += fs.writeSync(fd, ZEROS, 0, Math.min(bytes - done, ZEROS.length), offset + done);
    return true;
  } catch {
    return false;
  }
}

function map(fd: number, bytes: number): ArrayBuffer {
  const ffi = foreignFunctions();
  if (ffi === undefined) throw unavailable("node:ffi is missing");
  const mapping = mapShared(ffi, fd, bytes);
  if (mapping === undefined) throw unavailable("the kernel does not map the file");
  return mapping.buffer;
}

function unavailable(message: string): OsrError {
  return new OsrError(BLOCK_DEVICE_ERRORS.MEMORY_UNAVAILABLE, message);
}
