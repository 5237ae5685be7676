const PROT_READ_WRITE = 3;
const MAP_SHARED = 1;

/** A part of a file in our memory, shared with whoever else maps it. */
export type SharedMapping = Disposable & {
  /** Not to be used after the disposal: the memory is gone. */
  readonly buffer: ArrayBuffer;
};

/** Node's calls of C functions, or undefined where this Node was started without them. */
export function foreignFunctions(): typeof import("node:ffi") | undefined {
  // Not an import: without --experimental-ffi the module does not exist, and nothing that imports this file would start.
  return process.getBuiltinModule("node:ffi");
}

/** Maps the first bytes of an open file, for reading and writing. Undefined where the kernel does not. */
export function mapShared(
  ffi: typeof import("node:ffi"),
  fd: number,
  bytes: number,
): SharedMapping | undefined {
  const { functions } = ffi.dlopen(null, {
    mmap: { arguments: ["u64", "u64", "i32", "i32", "i32", "i64"], return: "pointer" },
    munmap: { arguments: ["u64", "u64"], return: "i32" },
  });
  const size = BigInt(bytes);
  const address = functions.mmap(0n, size, PROT_READ_WRITE, MAP_SHARED, fd, 0n);
  if (address === null || BigInt.asIntN(64, address) === -1n) return undefined;
  return {
    buffer: ffi.toArrayBuffer(address, bytes, false),
    [Symbol.dispose]: () => {
      functions.munmap(address, size);
    },
  };
}
