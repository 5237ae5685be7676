import { cp, mkdir, open, readFile, rm, symlink, truncate, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";

import { assert } from "@osr/base/assert";
import { MIB, MINUTE_MS } from "@osr/base/units";

import { agentProgram } from "./agent-program.ts";
import { cachedArtefact } from "./artefact-cache.ts";
import { runCommand } from "./commands.ts";
import { DATA_UUID, ROOT_UUID } from "./debian-files.ts";
import { debianTrees } from "./debian-root.ts";
import { makeExt4 } from "./ext4.ts";
import type { Narrator } from "./narrator.ts";
import { strippedNode } from "./tools-disk.ts";

const ROOT_DISK_BYTES = 1152 * MIB;
const DATA_DISK_BYTES = 512 * MIB;
const SECTOR_BYTES = 512;
/** The first partition starts here; the boot loader lies before it. */
const PARTITION_OFFSET_BYTES = MIB;
/** sfdisk ends the last partition at a whole MiB, so a file system must leave one. */
const PARTITION_SLACK_BYTES = MIB;
/** Code of the master boot record; the partition table follows it. */
const BOOT_CODE_BYTES = 440;

const AGENT_UNIT = "osr-mobility-service.service";
const GRUB_FOLDER = "/usr/lib/grub/i386-pc";
const GRUB_EARLY = `search.fs_uuid ${ROOT_UUID} root
set prefix=($root)/boot/grub
configfile $prefix/grub.cfg
`;
const GRUB_MODULES =
  "biosdisk part_msdos ext2 search search_fs_uuid configfile normal linux serial terminal echo";

export type DebianImages = { readonly rootPath: string; readonly dataPath: string };

/** Disk images of the Debian machine, with the agent in it. Nothing may write to them: put a layer on top. */
export async function debianImages(
  narrator: Narrator,
  signal?: AbortSignal,
): Promise<DebianImages> {
  const trees = await debianTrees(narrator, signal);
  const agent = await agentProgram(narrator, signal);
  const directory = await cachedArtefact(
    {
      name: "debian-image",
      recipe: ["1", dirname(trees.rootTree), agent, process.version, GRUB_EARLY, GRUB_MODULES],
      async build(target, abort) {
        const root = join(target, "root");
        // Hard links: the tree is not copied, and a file that comes on top never changes the one below.
        await runCommand("cp", ["-al", trees.rootTree, root], { timeoutMs: MINUTE_MS });
        await mkdir(join(root, "opt", "osr", "bin"), { recursive: true });
        await strippedNode(join(root, "opt", "osr", "bin", "node"), abort);
        await cp(agent, join(root, "opt", "osr", "mobility-service"), { recursive: true });
        await enableAgent(root);
        await makeBootDisk(join(target, "root.img"), root, abort);
        await rm(root, { recursive: true });
        await makeExt4(join(target, "data.img"), {
          sizeBytes: DATA_DISK_BYTES,
          label: "data",
          uuid: DATA_UUID,
          tree: trees.dataTree,
          signal: abort,
        });
      },
    },
    narrator,
    signal,
  );
  return { rootPath: join(directory, "root.img"), dataPath: join(directory, "data.img") };
}

/** Installs the agent's own unit, enabled; it is idle until somebody enrols the machine. */
async function enableAgent(root: string): Promise<void> {
  const units = join(root, "etc", "systemd", "system");
  const shipped = join(root, "opt", "osr", "mobility-service", "systemd", AGENT_UNIT);
  await cp(shipped, join(units, AGENT_UNIT));
  await symlink(`../${AGENT_UNIT}`, join(units, "multi-user.target.wants", AGENT_UNIT));
}

/** A disk with a partition table, GRUB for BIOS, and one ext4 partition; no loop device, nothing mounted. */
async function makeBootDisk(path: string, tree: string, signal: AbortSignal): Promise<void> {
  await writeFile(path, "");
  await truncate(path, ROOT_DISK_BYTES);
  await runCommand("sfdisk", ["-q", path], {
    timeoutMs: MINUTE_MS,
    input: `label: dos\nstart=${PARTITION_OFFSET_BYTES / SECTOR_BYTES}, type=83, bootable\n`,
    signal,
  });
  await makeExt4(path, {
    sizeBytes: ROOT_DISK_BYTES,
    label: "root",
    uuid: ROOT_UUID,
    tree,
    partition: {
      offsetBytes: PARTITION_OFFSET_BYTES,
      bytes: ROOT_DISK_BYTES - PARTITION_OFFSET_BYTES - PARTITION_SLACK_BYTES,
    },
    signal,
  });
  const early = `${path}.grub`;
  const core = `${path}.core`;
  await writeFile(early, GRUB_EARLY);
  await runCommand(
    "grub-mkimage",
    [
      ["-O", "i386-pc", "-c", early, "-p", "/boot/grub", "-o", core],
      GRUB_MODULES.split(" "),
    ].flat(),
    { timeoutMs: MINUTE_MS, signal },
  );
  const coreBytes = await readFile(core);
  assert(
    coreBytes.length <= PARTITION_OFFSET_BYTES - SECTOR_BYTES,
    "GRUB fits before the partition",
  );
  const bootCode = (await readFile(join(GRUB_FOLDER, "boot.img"))).subarray(0, BOOT_CODE_BYTES);
  await using disk = await open(path, "r+");
  // As they come, boot.img loads sector 1 and the first sector of core.img loads those behind it.
  await disk.write(bootCode, 0, bootCode.length, 0);
  await disk.write(coreBytes, 0, coreBytes.length, SECTOR_BYTES);
  await rm(early);
  await rm(core);
}
