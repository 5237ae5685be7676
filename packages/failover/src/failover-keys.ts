import type { Uuid } from "@osr/base/uuid";
import { type DataKey, groupKeyOf } from "@osr/repository/key-schedule";
import type { ObjectStore } from "@osr/repository/object-store";
import { readDataKey } from "@osr/repository/wrapped-key";

/** The keys that a failover needs. They are in memory only and never written to the run directory. */
export type FailoverKeys = {
  /** Signs the recovery points of the group. */
  groupKey(groupId: Uuid): Buffer;
  dataKey(diskId: Uuid, signal: AbortSignal): Promise<DataKey>;
};

/** The keys as whoever holds the vault key derives them, with the storage account alone. */
export function keysOfVault(
  store: ObjectStore,
  vault: { readonly vaultId: Uuid; readonly vaultKey: Buffer },
): FailoverKeys {
  return {
    groupKey: (groupId) => groupKeyOf(vault.vaultKey, groupId),
    dataKey: (diskId, signal) => readDataKey(store, { ...vault, diskId }, undefined, signal),
  };
}
