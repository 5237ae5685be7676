import { OsrError } from "@osr/base/errors";
import { DISK_BYTES_MAX } from "@osr/base/block-range";
import { MIB, TIB } from "@osr/base/units";
import type { MachineSpec } from "@osr/compute/compute-provider";

import { COMPUTE_ERRORS } from "./compute-errors.ts";

/** Disks, NICs and our own devices each take a slot of the machine's PCI bus, which has 32. */
export const DISKS_MAX = 16;
export const NICS_MAX = 8;

const CPU_COUNT_MAX = 255;
const MEMORY_BYTES_MIN = 16 * MIB;
const SECTOR_BYTES = 512;
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;
const MAC = /^(?:[0-9a-f]{2}:){5}[0-9a-f]{2}$/i;

/** Throws MACHINE_SPEC_INVALID where QEMU could not be given this machine. */
export function checkMachineSpec(spec: MachineSpec): void {
  demand(NAME.test(spec.name), "name has 1 to 63 characters of [A-Za-z0-9._-]");
  demand(isWithin(spec.cpuCount, 1, CPU_COUNT_MAX), `cpuCount is 1 to ${CPU_COUNT_MAX}`);
  demand(
    isWithin(spec.memoryBytes, MEMORY_BYTES_MIN, TIB) && spec.memoryBytes % MIB === 0,
    "memoryBytes is a multiple of 1 MiB, at least 16 MiB",
  );
  demand(isWithin(spec.disks.length, 1, DISKS_MAX), `there are 1 to ${DISKS_MAX} disks`);
  demand(
    spec.disks.filter((disk) => disk.isBoot).length === 1,
    "exactly one disk is the boot disk",
  );
  const diskNames = new Set(spec.disks.map((disk) => disk.name));
  demand(diskNames.size === spec.disks.length, "names of disks are unique");
  for (const disk of spec.disks) {
    demand(
      isWithin(disk.sizeBytes, SECTOR_BYTES, DISK_BYTES_MAX) && disk.sizeBytes % SECTOR_BYTES === 0,
      `sizeBytes of disk ${disk.name} is a multiple of 512, at most 16 TiB`,
    );
    demand(disk.source.unixSocketPath.startsWith("/"), "unixSocketPath is absolute");
  }
  demand(spec.nics.length <= NICS_MAX, `there are at most ${NICS_MAX} NICs`);
  for (const nic of spec.nics) demand(isMac(nic.mac), `${nic.mac} is a MAC address`);
}

/** True for a unicast MAC address with colons. */
export function isMac(text: string): boolean {
  return MAC.test(text) && (Number.parseInt(text.slice(0, 2), 16) & 1) === 0;
}

function isWithin(value: number, min: number, max: number): boolean {
  return Number.isSafeInteger(value) && value >= min && value <= max;
}

function demand(holds: boolean, rule: string): void {
  if (!holds) throw new OsrError(COMPUTE_ERRORS.MACHINE_SPEC_INVALID, `it must hold that ${rule}`);
}
