import { rename } from "node:fs/promises";

import type { MachineSpec } from "@osr/compute/compute-provider";
import { MINUTE_MS } from "@osr/base/units";

import { runCommand } from "./command.ts";
import type { MachinePaths } from "./machine-paths.ts";
import { pathExists } from "./path.ts";

type Disk = MachineSpec["disks"][number];

/** Requests wait so long for a lost NBD server before the machine is paused; then it goes on as soon as the server is back. */
const RECONNECT_DELAY_SECONDS = 60;
const OPEN_TIMEOUT_SECONDS = 10;

/** Names of a disk in QEMU: its device, and the block node on top of what the device reads. */
export function deviceIdOf(diskIndex: number): string {
  return `disk${diskIndex}`;
}

export function overlayNodeOf(diskIndex: number): string {
  return `disk${diskIndex}-overlay`;
}

export function localNodeOf(diskIndex: number): string {
  return `disk${diskIndex}-local`;
}

/**
 * The machine's writes in a local qcow2 file over its source, an NBD export that is opened read-only. The backing link
 * is given here and not stored in the file, so that a moved source needs no rewriting of the file.
 */
export function overlayBlockNode(diskIndex: number, disk: Disk, paths: MachinePaths): object {
  return {
    driver: "qcow2",
    "node-name": overlayNodeOf(diskIndex),
    discard: "unmap",
    file: { driver: "file", filename: paths.overlay(diskIndex) },
    backing: {
      driver: "nbd",
      "node-name": `disk${diskIndex}-source`,
      "read-only": true,
      server: { type: "unix", path: disk.source.unixSocketPath },
      export: disk.source.exportName,
      "reconnect-delay": RECONNECT_DELAY_SECONDS,
      "open-timeout": OPEN_TIMEOUT_SECONDS,
    },
  };
}

/** The whole disk in a local qcow2 file, without a source. */
export function localBlockNode(diskIndex: number, paths: MachinePaths): object {
  return {
    driver: "qcow2",
    "node-name": localNodeOf(diskIndex),
    discard: "unmap",
    "detect-zeroes": "unmap",
    backing: null,
    file: { driver: "file", filename: paths.local(diskIndex) },
  };
}

/** Creates an empty qcow2 file unless it is there; it appears under its name only when it is complete. */
export async function ensureImage(path: string, sizeBytes: number): Promise<void> {
  if (await pathExists(path)) return;
  const temporary = `${path}.new`;
  await runCommand("qemu-img", ["create", "-q", "-f", "qcow2", temporary, String(sizeBytes)], {
    timeoutMs: MINUTE_MS,
  });
  await rename(temporary, path);
}
