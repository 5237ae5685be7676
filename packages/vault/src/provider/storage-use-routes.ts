import type { JsonObject } from "@osr/base/json-value";
import { isoTime } from "@osr/base/platform/iso-time";
import { SECOND_MS } from "@osr/base/units";

import { type ResourceRoute, type VaultRequest, ok } from "../arm/resource-routes.ts";
import type { VaultContext } from "../vault-context.ts";
import { type StorageUse, StorageUses } from "./storage-use.ts";

/** `V/OpenSiteRecovery/storageUse`: what the vault has in the storage account, by disk, and when that was counted. */
export function storageUseRoutes(context: VaultContext): ResourceRoute[] {
  const uses = new StorageUses(context);
  return [
    {
      method: "GET",
      path: "V/OpenSiteRecovery/storageUse",
      action: "OpenSiteRecovery/storageUse/read",
      summary:
        "Bytes and objects of the vault in the storage account, by disk; counted anew after 15 minutes",
      read: async (request) =>
        ok(storageUseBody(request, await uses.of(request.vault.id), context.clock.unixMs())),
    },
  ];
}

function storageUseBody(request: VaultRequest, use: StorageUse, nowUnixMs: number): JsonObject {
  const { disks, recoveryPoints, sealedState, other, countedUnixMs } = use;
  const all = [...disks.values(), recoveryPoints, sealedState, other];
  return {
    id: request.resourcePath,
    name: "storageUse",
    type: "OpenSiteRecovery/storageUse",
    properties: {
      countedTime: isoTime(countedUnixMs),
      ageInSeconds: Math.max(0, Math.round((nowUnixMs - countedUnixMs) / SECOND_MS)),
      bytes: all.reduce((sum, { bytes }) => sum + bytes, 0),
      objects: all.reduce((sum, { objects }) => sum + objects, 0),
      disks: [...disks].map(([diskId, each]) => ({ diskId, ...each })),
      recoveryPoints: { ...recoveryPoints },
      sealedState: { ...sealedState },
      other: { ...other },
    },
  };
}
