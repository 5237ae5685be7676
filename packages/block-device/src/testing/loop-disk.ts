import { execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import { systemScheduler } from "@osr/base/platform/system-scheduler";

/** What tests need of node:test's context. */
export type TestContext = { after(cleanup: () => Promise<void>): void };

/** A loop device over a file in a temporary folder. */
export type LoopDisk = {
  readonly name: string;
  readonly path: string;
  readonly major: number;
  readonly minor: number;
  readonly sizeBytes: number;
  readonly backingFile: string;
};

const TOOL_LIMIT_MS = 30_000;
const UNMOUNT_ATTEMPTS_MAX = 40;
const UNMOUNT_DELAY_MS = 50;

/** Why tests that need loop devices and the given tools cannot run here; undefined where they can. */
export function loopSkipReason(...tools: readonly string[]): string | undefined {
  if (process.platform !== "linux") return "needs Linux";
  if (process.getuid?.() !== 0) return "needs root";
  if (!fs.existsSync("/dev/loop-control")) return "needs loop devices";
  return ["losetup", ...tools]
    .filter((tool) => !isInstalled(tool))
    .map((tool) => `needs ${tool}`)
    .at(0);
}

function isInstalled(tool: string): boolean {
  const folders = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
  return folders.some((folder) => fs.existsSync(path.join(folder, tool)));
}

/** Runs a tool to its end and returns its output. Throws where it fails. */
export function runTool(tool: string, ...args: readonly string[]): string {
  return execFileSync(tool, args, { encoding: "utf8", stdio: "pipe", timeout: TOOL_LIMIT_MS });
}

/**
 * Loop devices, mounts and folders of one test, undone in reverse order when it ends, also when it fails.
 */
export class LoopDisks {
  readonly #cleanups = new AsyncDisposableStack();
  readonly #folder: string;
  #next = 0;

  constructor(context: TestContext) {
    this.#folder = fs.mkdtempSync(path.join(os.tmpdir(), "osr-loop-"));
    this.#cleanups.defer(() => fs.rmSync(this.#folder, { recursive: true }));
    context.after(() => this.#cleanups.disposeAsync());
  }

  /** Undoes something of the test's own, before all that was made earlier. */
  defer(cleanup: () => void | Promise<void>): void {
    this.#cleanups.defer(cleanup);
  }

  /** A folder of its own. */
  folder(): string {
    const folder = path.join(this.#folder, `folder-${(this.#next += 1)}`);
    fs.mkdirSync(folder);
    return folder;
  }

  /** A disk of zeros, over a sparse file in `folder`. */
  create(sizeBytes: number, folder: string = this.#folder): LoopDisk {
    const backingFile = path.join(folder, `disk-${(this.#next += 1)}`);
    fs.writeFileSync(backingFile, "");
    fs.truncateSync(backingFile, sizeBytes);
    const device = runTool("losetup", "--find", "--show", backingFile).trim();
    this.#cleanups.defer(() => void runTool("losetup", "--detach", device));
    const name = path.basename(device);
    const numbers = fs.readFileSync(`/sys/class/block/${name}/dev`, "utf8").trim().split(":");
    const [major, minor] = numbers.map(Number);
    return { name, path: device, major: major ?? 0, minor: minor ?? 0, sizeBytes, backingFile };
  }

  /** Makes a file system with `mkfs.<type>` and mounts it; returns the mount point. */
  mount(disk: LoopDisk, type: string, ...mkfsArgs: readonly string[]): string {
    runTool(`mkfs.${type}`, ...mkfsArgs, disk.path);
    const folder = this.folder();
    runTool("mount", "-t", type, disk.path, folder);
    this.#cleanups.defer(() => unmount(folder));
    return folder;
  }
}

/** A process that is just ending can hold a mount for a moment longer. */
async function unmount(folder: string): Promise<void> {
  for (let attempt = 1; attempt <= UNMOUNT_ATTEMPTS_MAX; attempt++) {
    try {
      runTool("umount", folder);
      return;
    } catch {
      await systemScheduler.sleep(UNMOUNT_DELAY_MS);
    }
  }
  // Better out of sight than left behind for the tests that follow.
  runTool("umount", "--lazy", folder);
}
