import { open } from "node:fs/promises";
import { basename } from "node:path";

import { MINUTE_MS, SECOND_MS } from "@osr/base/units";

import { runCommand } from "./command.ts";

const LIMIT_MS = MINUTE_MS;

/** A loop device over a file; disposing it detaches it. */
export type LoopDevice = AsyncDisposable & {
  readonly name: string;
  readonly path: string;
  /** From now on it reads and writes through the page cache, as one that was attached as `cached`. */
  useCache(): Promise<void>;
};

export async function attachLoop(
  file: string,
  options: {
    /** direct: past the page cache, for files larger than memory. */
    readonly access: "cached" | "direct";
    readonly signal: AbortSignal;
  },
): Promise<LoopDevice> {
  const { access, signal } = options;
  const mode = `--direct-io=${access === "direct" ? "on" : "off"}`;
  const args = ["--find", "--show", mode, file];
  const path = (await runCommand("losetup", args, { timeoutMs: LIMIT_MS, signal })).trim();
  return {
    name: basename(path),
    path,
    async useCache() {
      await runCommand("losetup", ["--direct-io=off", path], { timeoutMs: LIMIT_MS, signal });
    },
    async [Symbol.asyncDispose]() {
      const own = AbortSignal.timeout(LIMIT_MS);
      try {
        await runCommand("losetup", ["--detach", path], { timeoutMs: LIMIT_MS, signal: own });
      } catch (error) {
        // Whoever else uses loop devices on this host may have detached it: then it is as it should be.
        if (!(await isDetached(path))) throw error;
      }
      await detached(path, own);
    },
  };
}

/** Mounts the file system of a block device; disposing it unmounts. */
export async function mountDevice(
  device: string,
  folder: string,
  signal: AbortSignal,
): Promise<AsyncDisposable> {
  await runCommand("mount", [device, folder], { timeoutMs: LIMIT_MS, signal });
  return {
    async [Symbol.asyncDispose]() {
      const own = AbortSignal.timeout(LIMIT_MS);
      try {
        await runCommand("umount", [folder], { timeoutMs: LIMIT_MS, signal: own });
      } catch {
        // A process that is just ending can hold it for a moment; better out of sight than left behind.
        await runCommand("umount", ["--lazy", folder], { timeoutMs: LIMIT_MS, signal: own });
      }
    },
  };
}

/** The kernel detaches a device when its last user closes it, which may be a moment after the command. */
async function detached(path: string, signal: AbortSignal): Promise<void> {
  while (!(await isDetached(path)))
    await runCommand("sleep", ["0.1"], { timeoutMs: 10 * SECOND_MS, signal });
}

async function isDetached(path: string): Promise<boolean> {
  await using file = await open(`/sys/class/block/${basename(path)}/size`).catch(() => undefined);
  return file === undefined || (await file.readFile("utf8")).trim() === "0";
}
