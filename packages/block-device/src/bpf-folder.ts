import fs from "node:fs";
import path from "node:path";

import { OsrError, messageOf, systemErrorCode } from "@osr/base/errors";

import { BLOCK_DEVICE_ERRORS } from "./block-device-errors.ts";
import type { BpfCalls } from "./bpf-calls.ts";
import { assertTrackerName, mountKernelFileSystem } from "./kernel-file-system.ts";

const BPFFS = "/sys/fs/bpf";
const BPFFS_MAGIC = 0xcafe4a11;

/**
 * A folder of the kernel's file system for what outlives the process that made it: as long as a program is in it, it runs. One
 * process at a time may have it; the lock goes with the process.
 */
export class BpfFolder implements Disposable {
  readonly #path: string;
  readonly #fd: number;

  private constructor(folder: string, fd: number) {
    this.#path = folder;
    this.#fd = fd;
  }

  /** Makes it where it is not there. Throws BPF_UNAVAILABLE, or TRACKER_BUSY where a living process has it. */
  static open(calls: BpfCalls, name: string): BpfFolder {
    assertTrackerName(name);
    const folder = path.join(mountedBpffs(), name);
    fs.mkdirSync(folder, { recursive: true, mode: 0o700 });
    const fd = fs.openSync(folder, fs.constants.O_RDONLY | fs.constants.O_DIRECTORY);
    if (calls.lock(fd)) return new BpfFolder(folder, fd);
    fs.closeSync(fd);
    throw new OsrError(BLOCK_DEVICE_ERRORS.TRACKER_BUSY, `${folder} is in use`);
  }

  /** Whether somebody has left one. */
  static isThere(name: string): boolean {
    return fs.existsSync(path.join(BPFFS, name));
  }

  file(name: string): string {
    return path.join(this.#path, name);
  }

  has(name: string): boolean {
    return fs.existsSync(this.file(name));
  }

  remove(name: string): void {
    fs.rmSync(this.file(name), { force: true });
  }

  empty(): void {
    for (const name of fs.readdirSync(this.#path)) this.remove(name);
  }

  /** Gives it up; what is in it stays, and it with that. */
  [Symbol.dispose](): void {
    if (fs.readdirSync(this.#path).length === 0) fs.rmdirSync(this.#path);
    fs.closeSync(this.#fd);
  }

  /** Gives it up with all that is in it. */
  removeAll(): void {
    this.empty();
    this[Symbol.dispose]();
  }
}

/** Where that file system is; mounts it where it is not mounted yet. Throws BPF_UNAVAILABLE with the reason. */
export function mountedBpffs(): string {
  try {
    if (fs.statfsSync(BPFFS).type !== BPFFS_MAGIC) mountKernelFileSystem("bpf", BPFFS);
    return BPFFS;
  } catch (cause) {
    const reason = systemErrorCode(cause) === "ENOENT" ? "this kernel has none" : messageOf(cause);
    const message = `${BPFFS} cannot be mounted: ${reason}`;
    throw new OsrError(BLOCK_DEVICE_ERRORS.BPF_UNAVAILABLE, message, { cause });
  }
}
