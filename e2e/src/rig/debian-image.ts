import { cp, mkdir, rm, symlink, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";

import { MIB, MINUTE_MS } from "@osr/base/units";

import { agentProgram } from "./agent-program.ts";
import { cachedArtefact } from "./artefact-cache.ts";
import { BOOT_DISK_RECIPE, type Firmware, makeBootDisk } from "./boot-disk.ts";
import { runCommand } from "./commands.ts";
import { DATA_UUID, fstab } from "./debian-files.ts";
import { debianTrees } from "./debian-root.ts";
import { makeExt4 } from "./ext4.ts";
import type { Narrator } from "./narrator.ts";
import { strippedNode } from "./tools-disk.ts";

const DATA_DISK_BYTES = 512 * MIB;
const AGENT_UNIT = "osr-mobility-service.service";

export type DebianImages = { readonly rootPath: string; readonly dataPath: string };

/** Disk images of the Debian machine, with the agent in it. Nothing may write to them: put a layer on top. */
export async function debianImages(
  firmware: Firmware,
  narrator: Narrator,
  signal?: AbortSignal,
): Promise<DebianImages> {
  const trees = await debianTrees(narrator, signal);
  const agent = await agentProgram(narrator, signal);
  const directory = await cachedArtefact(
    {
      name: firmware === "bios" ? "debian-image" : "debian-uefi-image",
      recipe: [
        "2",
        dirname(trees.rootTree),
        agent,
        process.version,
        fstab(firmware),
        ...BOOT_DISK_RECIPE,
      ],
      async build(target, abort) {
        const root = join(target, "root");
        // Hard links: the tree is not copied, and a file that comes on top never changes the one below.
        await runCommand("cp", ["-al", trees.rootTree, root], { timeoutMs: MINUTE_MS });
        await mkdir(join(root, "opt", "osr", "bin"), { recursive: true });
        await strippedNode(join(root, "opt", "osr", "bin", "node"), abort);
        await cp(agent, join(root, "opt", "osr", "mobility-service"), { recursive: true });
        await enableAgent(root);
        // Not through the hard link.
        await rm(join(root, "etc", "fstab"));
        await writeFile(join(root, "etc", "fstab"), fstab(firmware));
        await makeBootDisk(join(target, "root.img"), { firmware, tree: root, signal: abort });
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
