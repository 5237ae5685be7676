import { copyFile, mkdir, readdir, rm } from "node:fs/promises";
import { basename, join } from "node:path";

import { must } from "@osr/base/assert";

import { cachedArtefact } from "./artefact-cache.ts";
import { unpackDependencyOf } from "./debian-packages.ts";
import type { Narrator } from "./narrator.ts";

/** Modules of Debian's cloud kernel that a machine of the fast rig needs, in the order in which they are loaded. */
const MODULES = [
  "drivers/virtio/virtio_ring",
  "drivers/virtio/virtio",
  "drivers/virtio/virtio_pci_modern_dev",
  "drivers/virtio/virtio_pci_legacy_dev",
  "drivers/virtio/virtio_pci",
  "drivers/block/virtio_blk",
  "net/core/failover",
  "drivers/net/net_failover",
  "drivers/net/virtio_net",
  "drivers/md/dm-mod",
  "drivers/md/md-mod",
  "drivers/md/raid1",
] as const;

export type GuestKernel = {
  readonly imagePath: string;
  /** In the order in which they are loaded. */
  readonly modulePaths: readonly string[];
};

/** Debian's stock cloud kernel for the fast rig, from the package alone. */
export async function guestKernel(narrator: Narrator, signal?: AbortSignal): Promise<GuestKernel> {
  const directory = await cachedArtefact(
    { name: "guest-kernel", recipe: ["1", ...MODULES], build: buildKernel },
    narrator,
    signal,
  );
  return {
    imagePath: join(directory, "vmlinuz"),
    modulePaths: MODULES.map((module) => join(directory, `${basename(module)}.ko`)),
  };
}

async function buildKernel(directory: string, signal: AbortSignal): Promise<void> {
  const unpacked = join(directory, "package");
  await mkdir(unpacked);
  await unpackDependencyOf("linux-image-cloud-amd64", unpacked, signal);
  const image = (await readdir(join(unpacked, "boot"))).find((name) => name.startsWith("vmlinuz-"));
  const release = must(image, "the kernel package has no kernel").slice("vmlinuz-".length);
  await copyFile(join(unpacked, "boot", `vmlinuz-${release}`), join(directory, "vmlinuz"));
  const modules = join(unpacked, "lib", "modules", release, "kernel");
  for (const module of MODULES)
    await copyFile(join(modules, `${module}.ko`), join(directory, `${basename(module)}.ko`));
  await rm(unpacked, { recursive: true });
}
