import { type Shape, object, optional, text } from "@osr/base/json-shape";
import { type JsonObject, type JsonValue, jsonObject } from "@osr/base/json-value";
import { randomUuid } from "@osr/base/uuid";

import { ArmError, badRequest, notFound } from "../arm/arm-error.ts";
import { type ArmReply, type ArmRequest, ok } from "../arm/resource-routes.ts";
import type { RootRoute } from "../arm/router.ts";
import type { VaultDatabase, VaultTransaction } from "../database/database.ts";
import type { VaultPorts } from "../vault-context.ts";
import { VAULT_TYPE } from "./resource-body.ts";
import { vaultKey } from "./vault-row.ts";

const NAME = /^[A-Za-z0-9][A-Za-z0-9-]{0,49}$/;
const LOCATION_CHARS_MAX = 64;
const LIST_MAX = 1000;
const SKU_DEFAULT = { name: "RS0", tier: "Standard" };

type VaultPorts_ = Pick<VaultPorts, "clock" | "randomness">;

type VaultBody = { readonly location: string };
const vaultShape: Shape<VaultBody> = object<VaultBody>({ location: text(LOCATION_CHARS_MAX) });
const patchShape = object<{ location?: string | undefined }>({
  location: optional(text(LOCATION_CHARS_MAX)),
});

/** Vaults themselves: made, shown, changed and deleted in one step each. */
export function vaultRoutes(ports: VaultPorts_): RootRoute[] {
  const collection = "providers/Microsoft.RecoveryServices/vaults";
  return [
    {
      method: "PUT",
      path: "V",
      action: "Microsoft.RecoveryServices/vaults/write",
      summary: "Create or replace a vault",
      writeRoot: (request, tx) => putVault(request, tx, ports),
    },
    {
      method: "PATCH",
      path: "V",
      action: "Microsoft.RecoveryServices/vaults/write",
      summary: "Change a vault",
      writeRoot: patchVault,
    },
    {
      method: "GET",
      path: "V",
      action: "Microsoft.RecoveryServices/vaults/read",
      summary: "Show a vault",
      readRoot: async (request, database) => ok(bodyOf(await foundVault(request, database))),
    },
    {
      method: "DELETE",
      path: "V",
      action: "Microsoft.RecoveryServices/vaults/delete",
      summary: "Delete an empty vault",
      writeRoot: deleteVault,
    },
    {
      method: "GET",
      path: `/subscriptions/{subscriptionId}/resourceGroups/{resourceGroupName}/${collection}`,
      action: "Microsoft.RecoveryServices/vaults/read",
      summary: "List the vaults of a resource group",
      readRoot: listVaults,
    },
    {
      method: "GET",
      path: `/subscriptions/{subscriptionId}/${collection}`,
      action: "Microsoft.RecoveryServices/vaults/read",
      summary: "List the vaults of a subscription",
      readRoot: listVaults,
    },
  ];
}

async function putVault(
  request: ArmRequest,
  tx: VaultTransaction,
  { clock, randomness }: VaultPorts_,
): Promise<ArmReply> {
  const { subscriptionId = "", resourceGroupName = "", vaultName = "" } = request.parameters;
  if (!NAME.test(vaultName))
    throw badRequest(
      "name",
      "1 to 50 letters, digits and hyphens, beginning with a letter or digit",
    );
  for (const [field, value] of Object.entries({ subscriptionId, resourceGroupName }))
    if (value.includes("/")) throw badRequest(field, "must not hold a slash");
  const { location } = vaultShape(request.body ?? null, "");
  const now = clock.unixMs();
  const changing = {
    location,
    sku: JSON.stringify(field(request.body, "sku") ?? SKU_DEFAULT),
    tags: JSON.stringify(field(request.body, "tags") ?? {}),
    properties: JSON.stringify(field(request.body, "properties") ?? {}),
    etag: randomUuid(randomness),
  };
  const armId = request.resourcePath;
  const row = await tx
    .insertInto("vault")
    .values({
      id: randomUuid(randomness),
      key: armId.toLowerCase(),
      arm_id: armId,
      subscription_id: subscriptionId,
      resource_group: resourceGroupName,
      name: vaultName,
      created_at: now,
      ...changing,
    })
    .onConflict((conflict) => conflict.column("key").doUpdateSet(changing))
    .returningAll()
    .executeTakeFirstOrThrow();
  return { status: row.created_at === now ? 201 : 200, body: bodyOf(row) };
}

async function patchVault(request: ArmRequest, tx: VaultTransaction): Promise<ArmReply> {
  const row = await foundVault(request, tx);
  patchShape(request.body ?? {}, "");
  const tags = field(request.body, "tags") ?? row.tags;
  const properties = { ...row.properties, ...field(request.body, "properties") };
  const changed = await tx
    .updateTable("vault")
    .set({
      tags: JSON.stringify(tags),
      properties: JSON.stringify(properties),
      sku: JSON.stringify(field(request.body, "sku") ?? row.sku),
    })
    .where("id", "=", row.id)
    .returningAll()
    .executeTakeFirstOrThrow();
  return ok(bodyOf(changed));
}

async function deleteVault(request: ArmRequest, tx: VaultTransaction): Promise<ArmReply> {
  const row = await foundVault(request, tx);
  const fabrics = await tx
    .selectFrom("fabric")
    .select("name")
    .where("vault_id", "=", row.id)
    .limit(10)
    .execute();
  if (fabrics.length > 0)
    throw new ArmError(
      409,
      "ResourceInUse",
      `vault ${row.name} has fabrics: ${fabrics.map(({ name }) => name).join(", ")}`,
      "Disable replication of their machines and remove the fabrics first.",
    );
  await tx.deleteFrom("vault").where("id", "=", row.id).execute();
  return { status: 200 };
}

async function listVaults(request: ArmRequest, database: VaultDatabase): Promise<ArmReply> {
  const { subscriptionId = "", resourceGroupName } = request.parameters;
  const scope = `/subscriptions/${subscriptionId}/`.toLowerCase();
  const group =
    resourceGroupName === undefined ? "" : `resourcegroups/${resourceGroupName}/`.toLowerCase();
  const prefix = scope + group;
  const rows = await database
    .selectFrom("vault")
    .selectAll()
    .where((where) => where.fn("starts_with", ["key", where.val(prefix)]), "=", true)
    .orderBy("key")
    .limit(LIST_MAX)
    .execute();
  return ok({ value: rows.map(bodyOf), nextLink: null });
}

/** Columns of `selectAll`, as read. */
type Row = Awaited<ReturnType<typeof foundVault>>;

async function foundVault(
  request: ArmRequest,
  database: VaultDatabase,
): Promise<{
  id: import("@osr/base/uuid").Uuid;
  arm_id: string;
  name: string;
  location: string;
  etag: string;
  sku: JsonObject;
  tags: JsonObject;
  properties: JsonObject;
}> {
  const row = await database
    .selectFrom("vault")
    .selectAll()
    .where("key", "=", vaultKey(request.resourcePath.split("/").slice(1)))
    .executeTakeFirst();
  if (row === undefined) throw notFound(`vault ${request.parameters["vaultName"] ?? ""}`);
  return row;
}

function bodyOf(row: Row): JsonObject {
  return {
    id: row.arm_id,
    name: row.name,
    type: VAULT_TYPE,
    etag: row.etag,
    location: row.location,
    tags: row.tags,
    sku: row.sku,
    properties: {
      ...row.properties,
      provisioningState: "Succeeded",
      privateEndpointStateForBackup: "None",
      privateEndpointStateForSiteRecovery: "None",
    },
  };
}

/** An object field of the body; throws ArmError 400 where it is something else. */
function field(body: JsonValue | undefined, name: string): JsonObject | undefined {
  const value = jsonObject(body)?.[name];
  if (value === undefined || value === null) return undefined;
  const found = jsonObject(value);
  if (found === undefined) throw badRequest(name, "must be an object");
  return found;
}
