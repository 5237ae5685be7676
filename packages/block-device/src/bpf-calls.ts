import { getSystemErrorName } from "node:util";

import { OsrError } from "@osr/base/errors";

import { BLOCK_DEVICE_ERRORS } from "./block-device-errors.ts";
import { type SharedMapping, foreignFunctions, mapShared } from "./foreign-functions.ts";

/** Numbers of the system call and its commands: kernel, include/uapi/linux/bpf.h. */
const SYSTEM_CALL: Partial<Record<NodeJS.Architecture, number>> = { x64: 321, arm64: 280 };
const MAP_CREATE = 0;
const MAP_LOOKUP = 1;
const MAP_UPDATE = 2;
const MAP_DELETE = 3;
const MAP_NEXT_KEY = 4;
const PROGRAM_LOAD = 5;
const PIN = 6;
const OPEN_PIN = 7;
const INFO = 15;
const RAW_TRACEPOINT_OPEN = 17;

export const MAP_HASH = 1;
export const MAP_ARRAY = 2;
export const MAP_ARRAY_OF_MAPS = 12;
/** The map can be mapped into memory. */
export const MAPPABLE = 1 << 10;
/** Maps of any length may be put into a map of maps. */
export const INNER_MAP = 1 << 12;

const PROGRAM_TRACING = 26;
const ATTACH_RAW_TRACEPOINT = 23;

const ATTRIBUTE_BYTES = 128;
const LOG_BYTES = 64 * 1024;
const EAGAIN = 11;
const TRIES_MAX = 5;
const LICENCE = "GPL";

const LOCK_EXCLUSIVE_NOW = 2 | 4;

type Field =
  | readonly ["u32", offset: number, value: number]
  | readonly ["u64", offset: number, value: number | bigint];

export type BpfMapOptions = {
  readonly type: number;
  readonly keyBytes: number;
  readonly valueBytes: number;
  readonly entries: number;
  readonly flags?: number;
  /** For a map of maps: one like those that will be in it. */
  readonly inner?: number;
};

/**
 * The kernel's `bpf` calls that change tracking needs. What they return are file descriptors, which `fs.closeSync` closes.
 * Each throws BPF_UNAVAILABLE with the kernel's error.
 */
export class BpfCalls {
  readonly #call: (number: bigint, command: number, attribute: Buffer, bytes: number) => bigint;
  readonly #flock: (fd: number, operation: number) => number;
  readonly #number: bigint;
  readonly #ffi: typeof import("node:ffi");
  readonly #errnoAddress: bigint;

  constructor() {
    const ffi = foreignFunctions();
    if (ffi === undefined) throw unavailable("node:ffi is missing");
    const number = SYSTEM_CALL[process.arch];
    if (number === undefined) throw unavailable(`it is not known on ${process.arch}`);
    const { functions } = ffi.dlopen(null, {
      syscall: { arguments: ["i64", "i32", "buffer", "u32"], return: "i64" },
      flock: { arguments: ["i32", "i32"], return: "i32" },
      __errno_location: { arguments: [], return: "pointer" },
    });
    this.#ffi = ffi;
    this.#number = BigInt(number);
    this.#call = functions.syscall;
    this.#flock = functions.flock;
    this.#errnoAddress = functions["__errno_location"]();
  }

  createMap({ type, keyBytes, valueBytes, entries, flags = 0, inner }: BpfMapOptions): number {
    return this.#bpf("make a map", MAP_CREATE, [
      ["u32", 0, type],
      ["u32", 4, keyBytes],
      ["u32", 8, valueBytes],
      ["u32", 12, entries],
      ["u32", 16, flags],
      ["u32", 20, inner ?? 0],
    ]);
  }

  /**
   * Loads a program for a tracepoint, named by the number of its type in the kernel. Throws BPF_PROGRAM_REFUSED with the
   * verifier's words.
   */
  loadProgram(code: Buffer, tracepointTypeId: number): number {
    const licence = Buffer.from(`${LICENCE}\0`);
    const log = Buffer.alloc(LOG_BYTES);
    const fields: Field[] = [
      ["u32", 0, PROGRAM_TRACING],
      ["u32", 4, code.length / 8],
      ["u64", 8, this.#addressOf(code)],
      ["u64", 16, this.#addressOf(licence)],
      ["u32", 68, ATTACH_RAW_TRACEPOINT],
      ["u32", 108, tracepointTypeId],
    ];
    try {
      return this.#bpf("load the program", PROGRAM_LOAD, fields);
    } catch (cause) {
      // Once more for the verifier's reason, whose last lines say it.
      const more: Field[] = [
        ["u32", 24, 1],
        ["u32", 28, LOG_BYTES],
        ["u64", 32, this.#addressOf(log)],
      ];
      if (this.#try(PROGRAM_LOAD, [...fields, ...more]) >= 0) throw cause;
      const said = log
        .toString("latin1", 0, log.indexOf(0))
        .trim()
        .split("\n")
        .slice(-3)
        .join("; ");
      throw new OsrError(BLOCK_DEVICE_ERRORS.BPF_PROGRAM_REFUSED, `bpf: ${said}`, { cause });
    }
  }

  /** Attaches a program to its tracepoint; it runs until the last descriptor and pin of what is returned is gone. */
  attach(program: number): number {
    return this.#bpf("attach the program", RAW_TRACEPOINT_OPEN, [["u32", 8, program]]);
  }

  pin(fd: number, path: string): void {
    const text = Buffer.from(`${path}\0`);
    this.#bpf("pin", PIN, [
      ["u64", 0, this.#addressOf(text)],
      ["u32", 8, fd],
    ]);
  }

  openPin(path: string): number {
    const text = Buffer.from(`${path}\0`);
    return this.#bpf("open a pin", OPEN_PIN, [["u64", 0, this.#addressOf(text)]]);
  }

  update(map: number, key: Buffer, value: Buffer): void {
    this.#bpf("write to a map", MAP_UPDATE, this.#entry(map, key, value));
  }

  /** Reads a value into `value`; false where there is none. */
  lookup(map: number, key: Buffer, value: Buffer): boolean {
    return this.#try(MAP_LOOKUP, this.#entry(map, key, value)) >= 0;
  }

  /** The keys of a map, each of 4 bytes. */
  keys(map: number): readonly Buffer[] {
    const keys: Buffer[] = [];
    for (;;) {
      const next = Buffer.alloc(4);
      const fields: Field[] = [
        ["u32", 0, map],
        ["u64", 8, this.#addressOf(keys.at(-1))],
        ["u64", 16, this.#addressOf(next)],
      ];
      if (this.#try(MAP_NEXT_KEY, fields) < 0) return keys;
      keys.push(next);
    }
  }

  delete(map: number, key: Buffer): void {
    this.#bpf("delete from a map", MAP_DELETE, this.#entry(map, key));
  }

  /** What the kernel tells of a map, program or link, as its struct in uapi/linux/bpf.h. */
  info(fd: number, into: Buffer): Buffer {
    // What is in it would be taken for places to write to.
    into.fill(0);
    this.#bpf("ask for information", INFO, [
      ["u32", 0, fd],
      ["u32", 4, into.length],
      ["u64", 8, this.#addressOf(into)],
    ]);
    return into;
  }

  mapMemory(fd: number, bytes: number): SharedMapping {
    const mapping = mapShared(this.#ffi, fd, bytes);
    if (mapping === undefined) throw unavailable("the kernel does not map it");
    return mapping;
  }

  /** Takes the lock of an open file, which ends with this process at the latest; false where somebody else has it. */
  lock(fd: number): boolean {
    return this.#flock(fd, LOCK_EXCLUSIVE_NOW) === 0;
  }

  #entry(map: number, key: Buffer, value?: Buffer): Field[] {
    return [
      ["u32", 0, map],
      ["u64", 8, this.#addressOf(key)],
      ["u64", 16, this.#addressOf(value)],
    ];
  }

  #addressOf(bytes: Buffer | undefined): bigint {
    return bytes === undefined ? 0n : this.#ffi.getRawPointer(bytes);
  }

  #bpf(what: string, command: number, fields: readonly Field[]): number {
    for (let tries = 1; ; tries++) {
      const result = this.#try(command, fields);
      if (result >= 0) return result;
      // The verifier gives way to signals.
      if (result === -EAGAIN && tries < TRIES_MAX) continue;
      throw unavailable(`the kernel refuses to ${what}: ${getSystemErrorName(result)}`);
    }
  }

  /** The result, or the negative error number. */
  #try(command: number, fields: readonly Field[]): number {
    const attribute = Buffer.alloc(ATTRIBUTE_BYTES);
    for (const [type, offset, value] of fields)
      if (type === "u32") attribute.writeUInt32LE(value, offset);
      else attribute.writeBigUInt64LE(BigInt(value), offset);
    const result = Number(this.#call(this.#number, command, attribute, ATTRIBUTE_BYTES));
    return result >= 0 ? result : -this.#ffi.getInt32(this.#errnoAddress);
  }
}

function unavailable(reason: string): OsrError {
  return new OsrError(BLOCK_DEVICE_ERRORS.BPF_UNAVAILABLE, `bpf: ${reason}`);
}
