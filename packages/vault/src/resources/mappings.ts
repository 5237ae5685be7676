import { object, text } from "@osr/base/json-shape";
import type { JsonObject } from "@osr/base/json-value";
import { type Uuid, randomUuid } from "@osr/base/uuid";

import { ArmError, badRequest, notFound } from "../arm/arm-error.ts";
import { sameName, segmentsBelow } from "../arm/arm-path.ts";
import {
  type ArmAccepted,
  type ArmReply,
  type ResourceRoute,
  type VaultRequest,
  accepted,
  ok,
} from "../arm/resource-routes.ts";
import { routesOf } from "../arm/route-table.ts";
import type { VaultDatabase, VaultTransaction } from "../database/database.ts";
import type { FabricItems } from "../fabric/desired-items.ts";
import type { VaultContext } from "../vault-context.ts";
import { containerPath } from "./containers.ts";
import { type FabricRow, foundContainer } from "./fabric-row.ts";
import { armIdOf, resourceBody } from "./resource-body.ts";

const COLLECTION =
  "V/replicationFabrics/{fabricName}/replicationProtectionContainers/{protectionContainerName}/replicationProtectionContainerMappings";
const ACTION =
  "Microsoft.RecoveryServices/vaults/replicationFabrics/replicationProtectionContainers/replicationProtectionContainerMappings";
const route = routesOf(ACTION);
/** The recovery site, literally: every classic client sends this. */
const RECOVERY_SITE = "Microsoft Azure";

type MappingBody = {
  readonly properties: { readonly targetProtectionContainerId: string; readonly policyId: string };
};
const mappingShape = object<MappingBody>({
  properties: object<MappingBody["properties"]>({
    targetProtectionContainerId: text(2048),
    policyId: text(2048),
  }),
});

type Policy = {
  readonly id: Uuid;
  readonly name: string;
  readonly provider: "InMageAzureV2" | "InMage";
};

/** Associations of policies with fabrics. */
export function mappingRoutes(context: VaultContext, items: FabricItems): ResourceRoute[] {
  const path = `${COLLECTION}/{mappingName}`;
  const remove = (request: VaultRequest, tx: VaultTransaction): Promise<ArmReply | ArmAccepted> =>
    removeMapping(request, tx, context, items);
  return [
    route.read(
      "V/replicationProtectionContainerMappings",
      "List container mappings of the vault",
      (request, database) => listMappings(request, database, undefined),
    ),
    route.read(COLLECTION, "List container mappings of a container", async (request, database) =>
      listMappings(request, database, await foundContainer(request, database)),
    ),
    route.read(path, "Show a container mapping", async (request, database) => {
      const fabric = await foundContainer(request, database);
      const name = request.parameters["mappingName"] ?? "";
      const rows = await mappingRows(database, request.vault.id, fabric.id);
      const row = rows.find((one) => sameName(one.name, name));
      if (row === undefined) throw notFound(`container mapping ${name}`);
      return ok(mappingBody(request, row));
    }),
    route.put(path, "Associate a policy with a container", (request, tx) =>
      putMapping(request, tx, context),
    ),
    route.act(path, "remove", "Dissociate a policy from a container", remove),
    route.remove(path, "Remove a container mapping", remove),
  ];
}

async function putMapping(
  request: VaultRequest,
  tx: VaultTransaction,
  context: VaultContext,
): Promise<ArmAccepted> {
  const fabric = await foundContainer(request, tx);
  const { targetProtectionContainerId: target, policyId } = mappingShape(
    request.body ?? null,
    "",
  ).properties;
  const policy = await policyOfId(request, tx, policyId);
  const own = armIdOf(request.vault, containerPath(fabric));
  const isForward = sameName(target, RECOVERY_SITE);
  if (!isForward && !sameName(target, own))
    throw badRequest(
      "properties.targetProtectionContainerId",
      `must be '${RECOVERY_SITE}', or the container itself for failback`,
    );
  if (isForward !== (policy.provider === "InMageAzureV2"))
    throw badRequest("properties.policyId", `policy ${policy.name} is for the other direction`);
  const name = request.parameters["mappingName"] ?? "";
  const { policy_id: kept } = await tx
    .insertInto("container_mapping")
    .values({
      id: randomUuid(context.randomness),
      vault_id: request.vault.id,
      fabric_id: fabric.id,
      key: name.toLowerCase(),
      name,
      policy_id: policy.id,
      target_container: isForward ? RECOVERY_SITE : own,
      created_at: context.clock.unixMs(),
    })
    .onConflict((conflict) =>
      // An update that changes nothing, so that the row comes back.
      conflict.columns(["fabric_id", "key"]).doUpdateSet({ name }),
    )
    .returning("policy_id")
    .executeTakeFirstOrThrow();
  if (kept !== policy.id)
    throw new ArmError(
      409,
      "MappingExists",
      `container mapping ${name} associates another policy`,
      "Remove it first, or choose another name.",
    );
  return accepted(await recorded(request, tx, context, fabric, "AssociateProtectionProfile"));
}

async function removeMapping(
  request: VaultRequest,
  tx: VaultTransaction,
  context: VaultContext,
  items: FabricItems,
): Promise<ArmReply | ArmAccepted> {
  const fabric = await foundContainer(request, tx);
  await checkUnused(request, tx, fabric, items);
  const { numDeletedRows } = await tx
    .deleteFrom("container_mapping")
    .where("fabric_id", "=", fabric.id)
    .where("key", "=", (request.parameters["mappingName"] ?? "").toLowerCase())
    .executeTakeFirst();
  if (numDeletedRows === 0n) return { status: 204 };
  return accepted(await recorded(request, tx, context, fabric, "DissociateProtectionProfile"));
}

async function checkUnused(
  request: VaultRequest,
  tx: VaultTransaction,
  fabric: FabricRow,
  items: FabricItems,
): Promise<void> {
  const name = request.parameters["mappingName"] ?? "";
  const mapping = await tx
    .selectFrom("container_mapping")
    .select("policy_id")
    .where("fabric_id", "=", fabric.id)
    .where("key", "=", name.toLowerCase())
    .executeTakeFirst();
  const machines = await items.protectedMachines(tx, fabric.id);
  const users = machines.filter(({ policyId }) => policyId === mapping?.policy_id);
  if (users.length > 0)
    throw new ArmError(
      409,
      "MappingInUse",
      `${users.length} protected items replicate by the policy of ${name}`,
      "Disable their replication, or associate them with another policy, first.",
    );
}

function recorded(
  request: VaultRequest,
  tx: VaultTransaction,
  { jobs }: VaultContext,
  fabric: FabricRow,
  kind: "AssociateProtectionProfile" | "DissociateProtectionProfile",
): Promise<Uuid> {
  const verb = kind === "AssociateProtectionProfile" ? "Associate" : "Dissociate";
  return jobs.record(tx, {
    vaultId: request.vault.id,
    kind,
    friendlyName: `${verb} replication policy`,
    input: {},
    target: { id: fabric.id, name: fabric.name, instanceType: "ProtectionContainer" },
    resourcePath: request.resourcePath,
    activityId: request.activityId,
  });
}

async function policyOfId(
  request: VaultRequest,
  database: VaultDatabase,
  armId: string,
): Promise<Policy> {
  const [collection, name, ...rest] = segmentsBelow(request.vault.armId, armId) ?? [];
  const isPolicy = collection?.toLowerCase() === "replicationpolicies" && rest.length === 0;
  const row =
    isPolicy && name !== undefined
      ? await database
          .selectFrom("policy")
          .select(["id", "name", "provider"])
          .where("vault_id", "=", request.vault.id)
          .where("key", "=", name.toLowerCase())
          .executeTakeFirst()
      : undefined;
  if (row === undefined)
    throw badRequest("properties.policyId", "is not the id of a policy of this vault");
  return row;
}

async function listMappings(
  request: VaultRequest,
  database: VaultDatabase,
  fabric: FabricRow | undefined,
): Promise<ArmReply> {
  const rows = await mappingRows(database, request.vault.id, fabric?.id);
  return ok({ value: rows.map((row) => mappingBody(request, row)), nextLink: null });
}

type MappingRow = {
  readonly name: string;
  readonly target_container: string;
  readonly fabric_id: Uuid;
  readonly fabric_name: string;
  readonly policy_name: string;
};

function mappingRows(
  database: VaultDatabase,
  vaultId: Uuid,
  fabricId: Uuid | undefined,
): Promise<MappingRow[]> {
  let query = database
    .selectFrom("container_mapping")
    .innerJoin("policy", "policy.id", "container_mapping.policy_id")
    .innerJoin("fabric", "fabric.id", "container_mapping.fabric_id")
    .select([
      "container_mapping.name",
      "target_container",
      "fabric_id",
      "fabric.name as fabric_name",
      "policy.name as policy_name",
    ])
    .where("container_mapping.vault_id", "=", vaultId)
    .orderBy("fabric.key")
    .orderBy("container_mapping.key");
  if (fabricId !== undefined) query = query.where("fabric_id", "=", fabricId);
  return query.execute();
}

function mappingBody(request: VaultRequest, row: MappingRow): JsonObject {
  const target = row.target_container === RECOVERY_SITE ? RECOVERY_SITE : row.fabric_name;
  const container = containerPath({ id: row.fabric_id, name: row.fabric_name });
  const path = [...container, "replicationProtectionContainerMappings", row.name];
  return resourceBody(request.vault, path, {
    targetProtectionContainerId: row.target_container,
    targetProtectionContainerFriendlyName: target,
    providerSpecificDetails: null,
    health: "Normal",
    healthErrorDetails: [],
    policyId: armIdOf(request.vault, ["replicationPolicies", row.policy_name]),
    state: "Paired",
    sourceProtectionContainerFriendlyName: row.fabric_name,
    sourceFabricFriendlyName: row.fabric_name,
    targetFabricFriendlyName: target,
    policyFriendlyName: row.policy_name,
  });
}
