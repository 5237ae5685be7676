import { copyFile, mkdir, stat } from "node:fs/promises";
import { basename, join } from "node:path";

import { MIB, MINUTE_MS } from "@osr/base/units";

import { cachedArtefact } from "./artefact-cache.ts";
import { runCommand } from "./commands.ts";
import { makeExt4 } from "./ext4.ts";
import type { Narrator } from "./narrator.ts";
import { copySharedLibraries } from "./shared-libraries.ts";

const DISK_BYTES = 320 * MIB;
const FIO = "/usr/bin/fio";
/** For machines whose file systems lie on LVM and md. */
const STORAGE_TOOLS = ["/sbin/lvm", "/sbin/mdadm", "/sbin/mke2fs"];
const LOADER = "ld-linux-x86-64.so.2";

/**
 * A read-only disk with the programs of the fast rig's machines: Node, which runs the agent, fio, and those that
 * make LVM, md and ext4, each with the libraries of the host. `/bin`, `/lib` and `/lib64/ld-linux-x86-64.so.2` are where the machine's links point.
 */
export async function toolsDisk(narrator: Narrator, signal?: AbortSignal): Promise<string> {
  const { size, mtimeMs } = await stat(FIO);
  const directory = await cachedArtefact(
    {
      name: "tools-disk",
      recipe: ["2", process.version, `${size} ${mtimeMs}`, ...STORAGE_TOOLS],
      build: buildToolsDisk,
    },
    narrator,
    signal,
  );
  return join(directory, "tools.img");
}

async function buildToolsDisk(directory: string, signal: AbortSignal): Promise<void> {
  const tree = join(directory, "tree");
  await mkdir(join(tree, "bin"), { recursive: true });
  await strippedNode(join(tree, "bin", "node"), signal);
  await copyFile(FIO, join(tree, "bin", "fio"));
  for (const tool of STORAGE_TOOLS) await copyFile(tool, join(tree, "bin", basename(tool)));
  await copySharedLibraries([process.execPath, FIO, ...STORAGE_TOOLS], join(tree, "lib"), signal);
  await mkdir(join(tree, "lib64"));
  await copyFile(join(tree, "lib", LOADER), join(tree, "lib64", LOADER));
  await makeExt4(join(directory, "tools.img"), {
    sizeBytes: DISK_BYTES,
    label: "tools",
    tree,
    signal,
  });
  await runCommand("rm", ["-rf", tree], { timeoutMs: MINUTE_MS });
}

/** The Node that runs this, without its debugging symbols: three quarters of the size. */
export async function strippedNode(target: string, signal: AbortSignal): Promise<void> {
  await runCommand("strip", ["-o", target, process.execPath], { timeoutMs: MINUTE_MS, signal });
}
