import { OsrError, defineErrors } from "@osr/base/errors";
import type { Log } from "@osr/base/log";
import type { Randomness } from "@osr/base/randomness";
import { openDirectReader } from "@osr/block-device/direct-reader";
import type {
  DirectReader,
  DiskInventory,
  ProtectableDisk,
} from "@osr/block-device/protected-disk";
import { eventDeviceOf } from "@osr/block-device/tracefs-tracker";
import { learnEventDevices } from "@osr/block-device/trust";

import { LEARNING_INSTANCE } from "./trace-instances.ts";

const ERRORS = defineErrors({
  NO_DISKS: {
    retryable: false,
    hint: "Look at the reasons in the log, and at the field `disks` of the configuration.",
  },
});

/** A disk of this machine that is to be protected. */
export type ProtectedDisk = {
  readonly disk: ProtectableDisk;
  readonly reader: DirectReader;
  readonly eventDevices: readonly number[];
  readonly untrusted: string | undefined;
};

/** Opens the disks that were found, and learns how their changes show. Throws NO_DISKS, TRACEFS_UNAVAILABLE. */
export async function openProtectedDisks(
  { disks, excluded }: DiskInventory,
  ports: { readonly log: Log; readonly randomness: Randomness },
): Promise<ProtectedDisk[]> {
  const { log, randomness } = ports;
  for (const { name, code, reason } of excluded)
    log.info("disk not protected", { name, code, reason });
  if (disks.length === 0) {
    const reasons = excluded.map(({ name, code }) => `${name}: ${code}`).join(", ");
    throw new OsrError(ERRORS.NO_DISKS, `there is no disk to protect (${reasons})`);
  }
  const opened: ProtectedDisk[] = [];
  for (const disk of disks) {
    const reader = openDirectReader(disk);
    const trust = await learnEventDevices({ disk, reader, name: LEARNING_INSTANCE, randomness });
    opened.push({
      disk,
      reader,
      eventDevices: trust.trusted ? trust.eventDevices : [eventDeviceOf(disk)],
      untrusted: trust.trusted ? undefined : trust.reason,
    });
    const { name, identity, sizeBytes } = disk;
    log.info("disk protected", { name, identity, sizeBytes, trusted: trust.trusted });
  }
  return opened;
}
