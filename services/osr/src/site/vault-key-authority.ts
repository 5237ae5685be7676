import type { Randomness } from "@osr/base/randomness";
import type { Uuid } from "@osr/base/uuid";
import type { SessionRequest } from "@osr/contracts/agent-protocol";
import type { AdmittedDisk, Admission, DiskAuthority } from "@osr/process-server/disk-authority";
import { diskIdOf } from "@osr/repository/disk-id";
import { groupKeyOf } from "@osr/repository/key-schedule";
import { TIMELINE_ROOT } from "@osr/repository/object-names";
import type { ObjectStore } from "@osr/repository/object-store";
import { ensureDataKey } from "@osr/repository/wrapped-key";

/**
 * Admits every machine that has a certificate of the site, each as a replication group of its own, and makes data keys
 * under the vault key: what `osr up` does until there is a vault.
 */
export function vaultKeyAuthority(options: {
  readonly store: ObjectStore;
  readonly vaultId: Uuid;
  readonly vaultKey: Buffer;
  readonly randomness: Randomness;
}): DiskAuthority {
  const { store, vaultId, vaultKey, randomness } = options;
  const admitDisk = async (
    machineId: Uuid,
    identity: string,
    signal: AbortSignal,
  ): Promise<AdmittedDisk> => {
    const diskId = diskIdOf(machineId, identity);
    const key = await ensureDataKey(store, { vaultId, vaultKey, diskId, randomness, signal });
    return { identity, diskId, timeline: TIMELINE_ROOT, dataKey: key };
  };
  return {
    async admit(machineId: Uuid, request: SessionRequest, signal: AbortSignal): Promise<Admission> {
      const disks: AdmittedDisk[] = [];
      for (const { identity } of request.disks)
        disks.push(await admitDisk(machineId, identity, signal));
      return { groupId: machineId, groupKey: groupKeyOf(vaultKey, machineId), disks };
    },
  };
}
