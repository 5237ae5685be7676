import { type Shape, list, object, text, uuidText } from "@osr/base/json-shape";
import type { Uuid } from "@osr/base/uuid";

const DISKS_MAX = 4096;

/** By what a machine is known again. */
export type MachineIdentity = {
  /** Of its enrolment. */
  readonly machineId: Uuid;
  /** SMBIOS system UUID, lower case; empty where the machine has none. */
  readonly biosUuid: string;
  /** Identities of its disks (`wwid:…`, `serial:…`, `ptuuid:…`). */
  readonly disks: readonly string[];
};

export const machineIdentityShape: Shape<MachineIdentity> = object<MachineIdentity>({
  machineId: uuidText,
  biosUuid: text(64),
  disks: list(text(512), DISKS_MAX),
});

/**
 * Why `found` is not the machine that `bound` was, or undefined. A copy of a machine has all that is on its disks, so only
 * what the hardware says counts: another SMBIOS UUID, or none of the disks by whose serial numbers it was known. Disks of a
 * machine may come and go, as long as one stays.
 */
export function identityMismatch(
  bound: MachineIdentity,
  found: MachineIdentity,
): string | undefined {
  const areKnown = bound.biosUuid !== "" && found.biosUuid !== "";
  if (areKnown && bound.biosUuid !== found.biosUuid)
    return `its SMBIOS UUID is ${found.biosUuid}, the enrolled machine's is ${bound.biosUuid}`;
  const serials = bound.disks.filter(isOfHardware);
  if (found.disks.length === 0 || serials.length === 0) return undefined;
  if (serials.some((serial) => found.disks.includes(serial))) return undefined;
  return `it has none of the enrolled machine's disks (${serials.join(", ")})`;
}

/** Not on the disk itself, where a copy has it too. */
function isOfHardware(identity: string): boolean {
  return identity.startsWith("wwid:") || identity.startsWith("serial:");
}
