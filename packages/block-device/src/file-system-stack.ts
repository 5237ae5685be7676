import fs from "node:fs";
import path from "node:path";

import { must } from "@osr/base/assert";

import { devicesBelow } from "./device-stack.ts";
import type { MountedFileSystem } from "./freezer.ts";
import { type MountEntry, parseMountTable } from "./mount-table.ts";
import { type SystemRoots, readNames, readText } from "./system-roots.ts";

/** Processes looked at for mount namespaces of their own. */
const PROCESSES_MAX = 100_000;

/** A way to a file system: the mount with this id, where the path is not hidden beneath another mount. */
type MountPath = { readonly mountId: number; readonly openPath: string };

/** A file system of the machine and every way to it, the best first. */
export type StackedFileSystem = MountedFileSystem & { readonly paths: readonly MountPath[] };

/**
 * The file systems whose data is on `disks` (`major:minor` of whole disks), directly or through partitions, dm, md and loop
 * devices, in any process's mount namespace, once per superblock; in the order in which they must be frozen: what lies in a
 * file of another file system goes before that one, and the root file system last.
 */
export function fileSystemsOnDisks(
  disks: ReadonlySet<string>,
  roots: SystemRoots,
): readonly StackedFileSystem[] {
  const tables = mountTables(roots);
  const mounts = tables.flatMap((table) => table.entries);
  const below = new Map<string, ReadonlySet<string>>();
  for (const { device } of mounts)
    if (!below.has(device)) below.set(device, devicesBelow(device, mounts, roots));
  for (const [device, devices] of below) if (disks.isDisjointFrom(devices)) below.delete(device);
  const levels = levelsOf(below);
  const rootDevice = tables[0]?.entries.findLast((entry) => entry.mountPoint === "/")?.device;
  return [...below.keys()]
    .map((device) => stackedFileSystem(device, tables))
    .toSorted(
      (a, b) =>
        (levels.get(b.device) ?? 0) - (levels.get(a.device) ?? 0) ||
        Number(a.device === rootDevice) - Number(b.device === rootDevice) ||
        b.mountPoint.length - a.mountPoint.length ||
        (a.mountPoint < b.mountPoint ? -1 : 1),
    );
}

/** How many file systems lie below each one at most, through loop devices. */
function levelsOf(below: ReadonlyMap<string, ReadonlySet<string>>): ReadonlyMap<string, number> {
  // `below` is transitive: whatever is below has a strictly smaller set of file systems below itself.
  const count = (device: string): number =>
    [...(below.get(device) ?? [])].filter((other) => other !== device && below.has(other)).length;
  return new Map([...below.keys()].map((device) => [device, count(device)]));
}

type MountTable = { readonly prefix: string; readonly entries: readonly MountEntry[] };

/** One table per mount namespace, our own first. */
function mountTables(roots: SystemRoots): readonly MountTable[] {
  const tables: MountTable[] = [];
  const seen = new Set<string>();
  const pids = readNames(roots.procfs).filter((name) => /^\d+$/.test(name));
  for (const pid of ["self", ...pids.slice(0, PROCESSES_MAX)]) {
    const namespace = readLink(path.join(roots.procfs, pid, "ns/mnt"));
    if (namespace === undefined || seen.has(namespace)) continue;
    const text = readText(roots.procfs, pid, "mountinfo");
    // A process that is ending has no mounts any more; another one of its namespace may.
    if (text === undefined || text === "") continue;
    seen.add(namespace);
    const prefix = pid === "self" ? "" : path.join(roots.procfs, pid, "root");
    tables.push({ prefix, entries: parseMountTable(text) });
  }
  return tables;
}

function stackedFileSystem(device: string, tables: readonly MountTable[]): StackedFileSystem {
  const ways = tables.flatMap(({ prefix, entries }) =>
    entries
      .filter((entry) => entry.device === device)
      // The whole file system rather than a bind mount, which may be of a single file.
      .toSorted(
        (a, b) =>
          Number(b.root === "/") - Number(a.root === "/") ||
          a.mountPoint.length - b.mountPoint.length,
      )
      .map((entry) => ({ entry, openPath: `${prefix}${entry.mountPoint}` })),
  );
  const best = must(ways[0], `no mount of ${device}`);
  return {
    mountPoint: best.entry.mountPoint,
    type: best.entry.type,
    device,
    openPath: best.openPath,
    paths: ways.map(({ entry, openPath }) => ({ mountId: entry.mountId, openPath })),
  };
}

function readLink(file: string): string | undefined {
  try {
    return fs.readlinkSync(file);
  } catch {
    return undefined;
  }
}
