import type { JsonObject } from "@osr/base/json-value";
import { isUuid } from "@osr/base/uuid";
import { parseObjectName, sealedStatePrefix, vaultPrefix } from "@osr/repository/object-names";
import { type ObjectStore, listAll } from "@osr/repository/object-store";

import { type ResourceRoute, type VaultRequest, ok } from "../arm/resource-routes.ts";
import type { VaultContext } from "../vault-context.ts";

type Use = { bytes: number; objects: number };

/** `V/OpenSiteRecovery/storageUse`: what the vault has in the storage account, by disk, counted when it is asked for. */
export function storageUseRoutes({ store }: VaultContext): ResourceRoute[] {
  return [
    {
      method: "GET",
      path: "V/OpenSiteRecovery/storageUse",
      action: "OpenSiteRecovery/storageUse/read",
      summary: "Bytes and objects of the vault in the storage account, by disk",
      read: async (request) => ok(await storageUse(request, store)),
    },
  ];
}

async function storageUse(request: VaultRequest, store: ObjectStore): Promise<JsonObject> {
  const { vault, signal } = request;
  const disks = new Map<string, Use>();
  const points: Use = { bytes: 0, objects: 0 };
  const other: Use = { bytes: 0, objects: 0 };
  for await (const { name, sizeBytes } of listAll(store, vaultPrefix(vault.id), signal)) {
    const parsed = parseObjectName(vault.id, name);
    if (parsed?.kind === "recovery-point") add(points, sizeBytes);
    else if (parsed !== undefined && "diskId" in parsed) {
      const use = disks.get(parsed.diskId) ?? { bytes: 0, objects: 0 };
      disks.set(parsed.diskId, use);
      add(use, sizeBytes);
    } else add(other, sizeBytes);
  }
  const sealed: Use = { bytes: 0, objects: 0 };
  for await (const { sizeBytes } of listAll(store, sealedStatePrefix(vault.id), signal))
    add(sealed, sizeBytes);
  const all = [...disks.values(), points, other, sealed];
  return {
    id: request.resourcePath,
    name: "storageUse",
    type: "OpenSiteRecovery/storageUse",
    properties: {
      bytes: all.reduce((sum, { bytes }) => sum + bytes, 0),
      objects: all.reduce((sum, { objects }) => sum + objects, 0),
      disks: [...disks]
        .filter(([diskId]) => isUuid(diskId))
        .map(([diskId, use]) => ({ diskId, ...use })),
      recoveryPoints: { ...points },
      sealedState: { ...sealed },
      other: { ...other },
    },
  };
}

function add(use: Use, sizeBytes: number): void {
  use.bytes += sizeBytes;
  use.objects += 1;
}
