import {
  type Shape,
  boolean,
  integer,
  list,
  object,
  oneOf,
  optional,
  text,
  uuidText,
} from "@osr/base/json-shape";
import type { MachineSpec } from "@osr/compute/compute-provider";

import { type ProcessIdentity, processIdentityShape } from "./process-identity.ts";
import { DISKS_MAX, NICS_MAX } from "./machine-limits.ts";

/**
 * What is known of a machine, on disk. `started` means that QEMU ought to run: where it does not, the machine failed,
 * or the host was restarted.
 */
export type MachineRecord = {
  readonly version: 1;
  readonly spec: MachineSpec;
  readonly phase: "created" | "started" | "stopped";
  /** The QEMU process of phase `started`. Absent for the moment between its start and the next write of the record. */
  readonly process?: ProcessIdentity;
  /** Names of the disks whose content is in the local file, so that the overlay is no longer used. */
  readonly localDisks: readonly string[];
  /** Why the machine is as it is, where nobody asked for that. */
  readonly reason?: string;
};

const TEXT_CHARS_MAX = 4096;
const word = text(TEXT_CHARS_MAX);

const specShape = object({
  machineId: uuidText,
  name: word,
  biosUuid: uuidText,
  firmware: oneOf("bios", "uefi"),
  cpuCount: integer(1),
  memoryBytes: integer(1),
  disks: list(
    object({
      name: word,
      sizeBytes: integer(1),
      serial: optional(word),
      isBoot: boolean,
      source: object({ unixSocketPath: word, exportName: word }),
    }),
    DISKS_MAX,
  ),
  nics: list(object({ network: word, mac: word }), NICS_MAX),
});

/** Fields that are undefined are left out by `object`, as exact optional properties demand. */
export const machineRecordShape = object({
  version: integer(1, 1),
  spec: specShape,
  phase: oneOf("created", "started", "stopped"),
  process: optional(processIdentityShape),
  localDisks: list(word, DISKS_MAX),
  reason: optional(word),
}) as Shape<unknown> as Shape<MachineRecord>;
