import type { JsonObject } from "@osr/base/json-value";
import type { Uuid } from "@osr/base/uuid";
import type { FabricStatus } from "@osr/contracts/fabric-protocol";

import { notFound } from "../arm/arm-error.ts";
import type { VaultRequest } from "../arm/resource-routes.ts";
import type { FabricTable } from "../database/core-tables.ts";
import type { VaultDatabase } from "../database/database.ts";

/** A fabric as read. */
export type FabricRow = Omit<FabricTable, "status"> & { readonly status: JsonObject | null };

/** The newest report of a fabric, without machines and gateways. */
export type FabricReport = Omit<FabricStatus, "machines" | "gateways" | "orderResults">;

export function reportOf(row: FabricRow): FabricReport | undefined {
  // Checked against its shape when it arrived.
  return row.status === null ? undefined : (row.status as unknown as FabricReport);
}

/** ARM names of what a fabric has exactly one of. */
export function containerName(fabricId: Uuid): string {
  return `cloud_${fabricId}`;
}

/** The fabric of a path. Throws ArmError 404. */
export async function foundFabric(
  request: VaultRequest,
  database: VaultDatabase,
): Promise<FabricRow> {
  const name = request.parameters["fabricName"] ?? "";
  const row = await database
    .selectFrom("fabric")
    .selectAll()
    .where("vault_id", "=", request.vault.id)
    .where("key", "=", name.toLowerCase())
    .executeTakeFirst();
  if (row === undefined) throw notFound(`fabric ${name}`);
  return row;
}

/** The fabric of a path that names its container, too. Throws ArmError 404. */
export async function foundContainer(
  request: VaultRequest,
  database: VaultDatabase,
): Promise<FabricRow> {
  const fabric = await foundFabric(request, database);
  const name = (request.parameters["protectionContainerName"] ?? "").toLowerCase();
  if (name !== containerName(fabric.id)) throw notFound(`protection container ${name}`);
  return fabric;
}

/** All fabrics of the vault, by name. */
export function fabricsOf(database: VaultDatabase, vaultId: Uuid): Promise<FabricRow[]> {
  return database
    .selectFrom("fabric")
    .selectAll()
    .where("vault_id", "=", vaultId)
    .orderBy("key")
    .execute();
}
