import { OsrError } from "@osr/base/errors";

import { BLOCK_DEVICE_ERRORS } from "./block-device-errors.ts";
import { foreignFunctions } from "./foreign-functions.ts";

/** Error numbers of Linux that are told apart here. */
export const EBUSY = 16;
export const EINVAL = 22;
export const ENOTTY = 25;
export const EOPNOTSUPP = 95;

const FIFREEZE = 0xc0045877n;
const FITHAW = 0xc0045878n;
const FIEMAP = 0xc020660bn;

/** System calls on file systems that Node has no function for. Each returns 0 or the error number, and blocks. */
export type LinuxCalls = {
  /** Freezes the file system of an open file: waits for its writers, syncs it and holds new ones. */
  freeze(fd: number): number;
  thaw(fd: number): number;
  /** Syncs the file system of an open file. */
  syncFileSystem(fd: number): number;
  /** Fills a request (struct fiemap, with room for extents behind it) with where an open file lies on its device. */
  mapExtents(fd: number, request: Buffer): number;
};

let loaded: LinuxCalls | undefined;

/** The calls of this process's C library. Throws FFI_UNAVAILABLE where Node was started without --experimental-ffi. */
export function linuxCalls(): LinuxCalls {
  loaded ??= load();
  return loaded;
}

function load(): LinuxCalls {
  const ffi = foreignFunctions();
  if (ffi === undefined)
    throw new OsrError(
      BLOCK_DEVICE_ERRORS.FFI_UNAVAILABLE,
      "node:ffi is missing: Node runs without --experimental-ffi",
    );
  const { functions } = ffi.dlopen(null, {
    ioctl: { arguments: ["i32", "u64", "u64"], return: "i32" },
    syncfs: { arguments: ["i32"], return: "i32" },
    __errno_location: { arguments: [], return: "pointer" },
  });
  // A symbol has one signature in a library: this one takes memory.
  const { functions: withMemory } = ffi.dlopen(null, {
    ioctl: { arguments: ["i32", "u64", "buffer"], return: "i32" },
  });
  // The address is fixed for a thread; asking for it later could itself change what it points at.
  const errnoAddress = functions["__errno_location"]();
  const errorNumber = (result: number): number => (result === 0 ? 0 : ffi.getInt32(errnoAddress));
  return {
    freeze: (fd) => errorNumber(functions.ioctl(fd, FIFREEZE, 0n)),
    thaw: (fd) => errorNumber(functions.ioctl(fd, FITHAW, 0n)),
    syncFileSystem: (fd) => errorNumber(functions.syncfs(fd)),
    mapExtents: (fd, request) => errorNumber(withMemory.ioctl(fd, FIEMAP, request)),
  };
}
