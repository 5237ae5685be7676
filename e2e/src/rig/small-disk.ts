import { mkdir } from "node:fs/promises";

import { MINUTE_MS } from "@osr/base/units";

import { runCommand } from "./commands.ts";

/** A file system in memory whose size can be changed while it is used: for disks that run full. Needs root. */
export class SmallDisk implements AsyncDisposable {
  readonly #path: string;

  private constructor(path: string) {
    this.#path = path;
  }

  /** Mounts it at `path`, which is made. */
  static async mount(path: string, sizeBytes: number): Promise<SmallDisk> {
    await mkdir(path, { recursive: true });
    await run("mount", ["-t", "tmpfs", "-o", `size=${sizeBytes},mode=700`, "osr-e2e", path]);
    return new SmallDisk(path);
  }

  async resize(sizeBytes: number): Promise<void> {
    await run("mount", ["-o", `remount,size=${sizeBytes}`, this.#path]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await run("umount", [this.#path]);
  }
}

function run(file: string, words: readonly string[]): Promise<string> {
  return runCommand(file, words, { timeoutMs: MINUTE_MS });
}
