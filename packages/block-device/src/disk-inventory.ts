import fs from "node:fs";
import path from "node:path";

import { DISK_BYTES_MAX } from "@osr/base/block-range";
import { MIB, formatBytes } from "@osr/base/units";

import { devicesOfDataFolders } from "./data-folders.ts";
import { devicesBelow } from "./device-stack.ts";
import { type DiskFacts, readDiskFacts } from "./disk-facts.ts";
import { type MountEntry, mountOfPath, parseMountTable } from "./mount-table.ts";
import type { DiskInventory, ExcludedDisk, ProtectableDisk } from "./protected-disk.ts";
import { swapRangesOf } from "./swap-areas.ts";
import { type SystemRoots, readNames, readText, systemRoots } from "./system-roots.ts";

const DISK_BYTES_MIN = MIB;
const DISKS_MAX = 4096;

/** Where the boot loader's files are, the surest first. */
const BOOT_FOLDERS = ["/boot/efi", "/efi", "/boot", "/"];

export type InventoryOptions = {
  /**
   * Names (`vda`, `/dev/vda`) or identities of the disks to protect. Empty: every disk that can be protected, but no loop or
   * network block devices, which are only protected when they are named here.
   */
  readonly selection: readonly string[];
  /**
   * Folders of a storage account or a spool: a disk that holds one is refused, since it would replicate itself. Those of roles
   * that run on this machine are known without being named.
   */
  readonly replicatedDataFolders: readonly string[];
  readonly roots?: SystemRoots;
};

type Exclusion = Omit<ExcludedDisk, "name">;

/** Finds the whole disks of this machine, and says of each other one why it is not protected. */
export async function readDiskInventory(options: InventoryOptions): Promise<DiskInventory> {
  const roots = options.roots ?? systemRoots;
  const mounts = parseMountTable(readText(roots.procfs, "self/mountinfo") ?? "");
  const holders = devicesOfFolders(options.replicatedDataFolders, mounts, roots);
  const names = readNames(roots.sysfs, "block").slice(0, DISKS_MAX);
  const facts = await Promise.all(names.map((name) => readDiskFacts(name, roots)));
  const present = facts.filter((disk) => disk !== undefined && !isIdle(disk)) as DiskFacts[];
  const twins = twinsOf(present.filter((disk) => exclusionByNature(disk) === undefined));
  const bootName = bootDiskName(present, mounts, roots);

  const disks: ProtectableDisk[] = [];
  const excluded: ExcludedDisk[] = [];
  for (const disk of present) {
    const { name, identity } = disk;
    const exclusion =
      exclusionByNature(disk) ??
      exclusionBySelection(disk, options.selection) ??
      exclusionByIdentity(disk, twins) ??
      (holders.has(disk.device) ? HOLDS_REPLICATED_DATA : undefined);
    if (exclusion !== undefined) excluded.push({ name, ...exclusion });
    if (exclusion !== undefined || identity === undefined) continue;
    disks.push({
      identity,
      name,
      path: `/dev/${name}`,
      major: disk.major,
      minor: disk.minor,
      sequence: disk.sequence,
      sizeBytes: disk.sizeBytes,
      logicalSectorBytes: disk.logicalSectorBytes,
      isBoot: name === bootName,
      swapRanges: swapRangesOf(disk, roots),
    });
  }
  for (const wanted of options.selection) {
    if (present.some((disk) => isNamed(disk, wanted))) continue;
    excluded.push({ name: wanted, code: "NOT_A_DISK", reason: "there is no such disk" });
  }
  return { disks, excluded };
}

/** Names of the disks that hold folders which roles of this machine have taken by now. Cheap; may be asked every few seconds. */
export function disksWithReplicatedData(
  disks: readonly Pick<ProtectableDisk, "name" | "major" | "minor">[],
  roots: SystemRoots = systemRoots,
): readonly string[] {
  const mounts = parseMountTable(readText(roots.procfs, "self/mountinfo") ?? "");
  const holders = devicesOfFolders([], mounts, roots);
  return disks
    .filter(({ major, minor }) => holders.has(`${major}:${minor}`))
    .map(({ name }) => name);
}

const HOLDS_REPLICATED_DATA: Exclusion = {
  code: "HOLDS_REPLICATED_DATA",
  reason: "it holds a storage account or a spool, and would replicate what it receives",
};

/** Loop and network block devices that are attached to nothing are no disks at all. */
function isIdle(disk: DiskFacts): boolean {
  return disk.isVirtual && disk.sizeBytes === 0;
}

function exclusionByNature(disk: DiskFacts): Exclusion | undefined {
  const { kind, sizeBytes, below } = disk;
  if (kind === "memory") return { code: "MEMORY_DISK", reason: "it is memory, not a disk" };
  if (kind === "path")
    return { code: "NOT_A_DISK", reason: "it is one of several paths to another disk" };
  if (kind === "layer")
    return {
      code: "LAYERED",
      reason: `it consists of ${below.join(", ") || "other devices"}, which are protected instead`,
    };
  if (kind === "removable") return { code: "REMOVABLE", reason: "its medium can be removed" };
  if (sizeBytes === 0) return { code: "NOT_A_DISK", reason: "it has no medium" };
  if (disk.isReadOnly) return { code: "READ_ONLY", reason: "it is read-only" };
  if (sizeBytes < DISK_BYTES_MIN)
    return { code: "TOO_SMALL", reason: `it has less than ${formatBytes(DISK_BYTES_MIN)}` };
  if (sizeBytes > DISK_BYTES_MAX)
    return { code: "TOO_LARGE", reason: `it has more than ${formatBytes(DISK_BYTES_MAX)}` };
  return undefined;
}

function exclusionBySelection(
  disk: DiskFacts,
  selection: readonly string[],
): Exclusion | undefined {
  if (selection.some((wanted) => isNamed(disk, wanted))) return undefined;
  if (disk.isVirtual)
    return { code: "NOT_SELECTED", reason: "loop and network block devices must be named" };
  if (selection.length === 0) return undefined;
  return { code: "NOT_SELECTED", reason: "other disks were selected" };
}

function exclusionByIdentity(
  disk: DiskFacts,
  twins: ReadonlyMap<string, readonly string[]>,
): Exclusion | undefined {
  if (disk.identity === undefined)
    return {
      code: "NO_IDENTITY",
      reason:
        "it has no WWID, serial number, partition table, file system, md or LVM label by which it can be known again",
    };
  const others = (twins.get(disk.identity) ?? []).filter((name) => name !== disk.name);
  if (others.length === 0) return undefined;
  return {
    code: "NO_IDENTITY",
    reason: `it has the same identity (${disk.identity}) as ${others.join(", ")}`,
  };
}

function isNamed(disk: DiskFacts, wanted: string): boolean {
  return wanted === disk.name || wanted === `/dev/${disk.name}` || wanted === disk.identity;
}

function twinsOf(disks: readonly DiskFacts[]): ReadonlyMap<string, readonly string[]> {
  const names = new Map<string, string[]>();
  for (const { identity, name } of disks) {
    if (identity === undefined) continue;
    names.set(identity, [...(names.get(identity) ?? []), name]);
  }
  return names;
}

/** The disk below the boot loader's files; of several (a mirror) the first one that a BIOS could start. */
function bootDiskName(
  disks: readonly DiskFacts[],
  mounts: readonly MountEntry[],
  roots: SystemRoots,
): string | undefined {
  const mount = BOOT_FOLDERS.map((folder) =>
    mounts.findLast((entry) => entry.mountPoint === folder && !isNoDisk(entry)),
  ).find((entry) => entry !== undefined);
  if (mount === undefined) return undefined;
  const below = devicesBelow(mount.device, mounts, roots);
  const candidates = disks.filter((disk) => disk.kind === "disk" && below.has(disk.device));
  return (candidates.find((disk) => disk.hasBootCode) ?? candidates[0])?.name;
}

/** An automounter shows itself as a mount of its own until the folder is used. */
function isNoDisk(entry: MountEntry): boolean {
  return entry.device.startsWith("0:") && entry.type !== "btrfs";
}

/** Devices that hold data of these folders, or of those that roles of this machine use. */
function devicesOfFolders(
  folders: readonly string[],
  mounts: readonly MountEntry[],
  roots: SystemRoots,
): ReadonlySet<string> {
  const named = folders.map((folder) => mountOfPath(mounts, realPath(folder))?.device);
  const devices = new Set<string>();
  for (const holding of [...named, ...devicesOfDataFolders(roots)])
    if (holding !== undefined)
      for (const device of devicesBelow(holding, mounts, roots)) devices.add(device);
  return devices;
}

/** The folder without links; where it does not exist yet, of its nearest parent that does. */
function realPath(folder: string): string {
  try {
    return fs.realpathSync(folder);
  } catch {
    const parent = path.dirname(folder);
    return parent === folder ? folder : realPath(parent);
  }
}
