import fs from "node:fs";
import path from "node:path";

import { type MountEntry, mountOfPath } from "./mount-table.ts";
import { type SystemRoots, readNames, readText } from "./system-roots.ts";

/** Devices of one stack; deeper ones than any real machine has are a loop in sysfs. */
const STACK_DEVICES_MAX = 4096;

/**
 * All devices (`major:minor`) that hold the data of `device`, itself included: a partition's disk, the members of dm and md
 * devices and of a btrfs, and for a loop device the file system of its file and what is below that.
 */
export function devicesBelow(
  device: string,
  mounts: readonly MountEntry[],
  roots: SystemRoots,
): ReadonlySet<string> {
  const found = new Set([device]);
  for (const current of found) {
    if (found.size > STACK_DEVICES_MAX) break;
    for (const below of directlyBelow(current, mounts, roots)) found.add(below);
  }
  return found;
}

function directlyBelow(
  device: string,
  mounts: readonly MountEntry[],
  roots: SystemRoots,
): readonly string[] {
  if (device.startsWith("0:")) return membersOfFileSystem(device, mounts, roots);
  const folder = deviceFolder(device, roots);
  if (folder === undefined) return [];
  if (readText(folder, "partition") !== undefined)
    return [readText(path.dirname(folder), "dev")].filter((dev) => dev !== undefined);
  const backingFile = readText(folder, "loop/backing_file");
  if (backingFile !== undefined) {
    const mount = mountOfPath(mounts, backingFile);
    return mount === undefined ? [] : [mount.device];
  }
  return readNames(folder, "slaves")
    .map((name) => readText(folder, "slaves", name, "dev"))
    .filter((dev) => dev !== undefined);
}

/** The devices of a file system with an anonymous superblock number: btrfs, which may have several. */
function membersOfFileSystem(
  device: string,
  mounts: readonly MountEntry[],
  roots: SystemRoots,
): readonly string[] {
  const mount = mounts.find((entry) => entry.device === device && entry.type === "btrfs");
  const name = mount === undefined ? undefined : nameOfSource(mount.source, roots);
  if (name === undefined) return [];
  const btrfs = path.join(roots.sysfs, "fs/btrfs");
  const id = readNames(btrfs).find((id) => readNames(btrfs, id, "devices").includes(name));
  const names = id === undefined ? [name] : readNames(btrfs, id, "devices");
  return names
    .map((member) => readText(roots.sysfs, "class/block", member, "dev"))
    .filter((dev) => dev !== undefined);
}

/** Kernel name of a device path, through links such as /dev/mapper/x. */
function nameOfSource(source: string, roots: SystemRoots): string | undefined {
  if (!source.startsWith("/dev/")) return undefined;
  const file = path.join(roots.dev, source.slice("/dev/".length));
  try {
    return path.basename(fs.realpathSync(file));
  } catch {
    return path.basename(source);
  }
}

function deviceFolder(device: string, roots: SystemRoots): string | undefined {
  try {
    return fs.realpathSync(path.join(roots.sysfs, "dev/block", device));
  } catch {
    return undefined;
  }
}
