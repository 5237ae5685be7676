import { OsrError, defineErrors } from "@osr/base/errors";
import type { Uuid } from "@osr/base/uuid";
import type { SessionRequest } from "@osr/contracts/agent-protocol";
import type { DiskGrant, MachineGrant } from "@osr/contracts/site-protocol";

import type { Admission, DiskAuthority } from "./disk-authority.ts";

/** There is no other version of a data key yet. */
const DATA_KEY_VERSION = 1;

/** Both pass by themselves: assignments and grants are on their way, or the machine is told where to go. */
const ERRORS = defineErrors({
  MACHINE_NOT_ASSIGNED: {
    retryable: true,
    hint: "The configuration server has given the machine to another process server, or to none. Look at its replication settings in the vault.",
  },
  DISK_NOT_ASSIGNED: {
    retryable: true,
    hint: "The vault has not given the disk an id and a key yet. It does so once the machine has registered it.",
  },
});

/** The machines that the configuration server has assigned to this process server, with their keys: in memory only. */
export class AssignedDisks implements DiskAuthority {
  #machines: ReadonlyMap<Uuid, MachineGrant> = new Map();

  /** Takes a new assignment over. Gives the machines that are not in it any more. */
  replace(machines: readonly MachineGrant[]): readonly Uuid[] {
    const before = this.#machines;
    this.#machines = new Map(machines.map((grant) => [grant.machineId, grant]));
    return [...before.keys()].filter((id) => !this.#machines.has(id));
  }

  /** Throws MACHINE_NOT_ASSIGNED, DISK_NOT_ASSIGNED. */
  admit(machineId: Uuid, request: SessionRequest): Promise<Admission> {
    const grant = this.#machines.get(machineId);
    if (grant === undefined)
      return Promise.reject(
        new OsrError(
          ERRORS.MACHINE_NOT_ASSIGNED,
          `machine ${machineId} is not assigned to this process server`,
        ),
      );
    const granted = new Map(grant.disks.map((disk) => [disk.identity, disk]));
    const disks: DiskGrant[] = [];
    for (const { identity } of request.disks) {
      const disk = granted.get(identity);
      if (disk === undefined)
        return Promise.reject(
          new OsrError(ERRORS.DISK_NOT_ASSIGNED, `disk ${identity} has no key yet`),
        );
      disks.push(disk);
    }
    return Promise.resolve({
      groupId: grant.groupId,
      groupKey: Buffer.from(grant.groupKey, "hex"),
      disks: disks.map(({ identity, diskId, timeline, dataKey, claimGrant }) => ({
        identity,
        diskId,
        timeline,
        dataKey: { diskId, version: DATA_KEY_VERSION, bytes: Buffer.from(dataKey, "hex") },
        ...(claimGrant === undefined ? {} : { grant: claimGrant }),
      })),
    });
  }
}
