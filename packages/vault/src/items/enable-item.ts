import { list, object, optional, text } from "@osr/base/json-shape";
import { type JsonObject, jsonObject } from "@osr/base/json-value";
import { type Uuid, isUuid, randomUuid } from "@osr/base/uuid";
import type { FabricMachine } from "@osr/contracts/fabric-protocol";

import { badRequest } from "../arm/arm-error.ts";
import { type ArmAccepted, type VaultRequest, accepted } from "../arm/resource-routes.ts";
import type { VaultTransaction } from "../database/database.ts";
import { foundContainer } from "../resources/fabric-row.ts";
import type { VaultContext } from "../vault-context.ts";
import { type TargetSettings, itemExists, reportedMachine } from "./item-row.ts";
import { ENABLING } from "./item-state.ts";

const NAME_CHARS_MAX = 64;
const ID_CHARS_MAX = 2048;

type EnableBody = {
  readonly properties: {
    readonly policyId: string;
    readonly protectableItemId: string;
    readonly providerSpecificDetails?: ProviderDetails | undefined;
  };
};
type ProviderDetails = {
  readonly instanceType?: string | undefined;
  readonly processServerId?: string | undefined;
  readonly multiVmGroupName?: string | undefined;
  readonly targetAzureNetworkId?: string | undefined;
  readonly targetAzureSubnetId?: string | undefined;
  readonly targetAzureVmName?: string | undefined;
  readonly targetVmSize?: string | undefined;
  readonly disksToInclude?: readonly { readonly diskId: string }[] | undefined;
};
const providerShape = object<ProviderDetails>({
  instanceType: optional(text(NAME_CHARS_MAX)),
  processServerId: optional(text(ID_CHARS_MAX)),
  multiVmGroupName: optional(text(NAME_CHARS_MAX)),
  targetAzureNetworkId: optional(text(ID_CHARS_MAX)),
  targetAzureSubnetId: optional(text(ID_CHARS_MAX)),
  targetAzureVmName: optional(text(NAME_CHARS_MAX)),
  targetVmSize: optional(text(NAME_CHARS_MAX)),
  disksToInclude: optional(list(object<{ diskId: string }>({ diskId: text(512) }), 256)),
});
const enableShape = object<EnableBody>({
  properties: object<EnableBody["properties"]>({
    policyId: text(ID_CHARS_MAX),
    protectableItemId: text(ID_CHARS_MAX),
    providerSpecificDetails: optional(providerShape),
  }),
});

/** PUT of a protected item: takes the machine and starts the job that enables its replication. */
export async function enableItem(
  request: VaultRequest,
  tx: VaultTransaction,
  context: VaultContext,
): Promise<ArmAccepted> {
  const fabric = await foundContainer(request, tx);
  const {
    policyId,
    protectableItemId,
    providerSpecificDetails = {},
  } = enableShape(request.body ?? null, "").properties;
  const name = request.parameters["replicatedProtectedItemName"] ?? "";
  const machineId = protectableItemId.split("/").at(-1)?.toLowerCase() ?? "";
  if (!isUuid(machineId))
    throw badRequest("properties.protectableItemId", "must be the id of a protectable item");
  const machine = await reportedMachine(tx, { fabric_id: fabric.id, machine_id: machineId });
  if (machine === undefined)
    throw badRequest("properties.protectableItemId", `the fabric knows no machine ${machineId}`);
  const policy = await policyOf(tx, request.vault.id, policyId);
  const sent = jsonObject(jsonObject(request.body)?.["properties"])?.["providerSpecificDetails"];
  const id = await insertItem(tx, context, {
    vaultId: request.vault.id,
    fabricId: fabric.id,
    name,
    machine,
    policyId: policy,
    details: providerSpecificDetails,
    sent: jsonObject(sent) ?? {},
  });
  const jobId = await context.jobs.enqueue(tx, {
    vaultId: request.vault.id,
    kind: "EnableDr",
    friendlyName: "Enable replication",
    input: { itemId: id },
    target: { id: machineId, name: machine.friendlyName, instanceType: "ProtectionEntity" },
    resourcePath: request.resourcePath,
    activityId: request.activityId,
  });
  await tx
    .updateTable("protected_item")
    .set({ job_id: jobId, job_kind: "EnableDr" })
    .where("id", "=", id)
    .execute();
  return accepted(jobId);
}

/** Throws ArmError 409 where the name or the machine has an item already. */
async function insertItem(
  tx: VaultTransaction,
  { clock, randomness }: VaultContext,
  item: {
    readonly vaultId: Uuid;
    readonly fabricId: Uuid;
    readonly name: string;
    readonly machine: FabricMachine;
    readonly policyId: Uuid;
    readonly details: ProviderDetails;
    readonly sent: JsonObject;
  },
): Promise<Uuid> {
  const { name, machine, details, sent } = item;
  const now = clock.unixMs();
  const id = randomUuid(randomness);
  const processServerId = details.processServerId?.toLowerCase();
  const excluded = excludedDisks(details, machine.registration?.disks ?? []);
  const { numInsertedOrUpdatedRows } = await tx
    .insertInto("protected_item")
    .values({
      id,
      vault_id: item.vaultId,
      fabric_id: item.fabricId,
      machine_id: machine.machineId,
      key: name.toLowerCase(),
      name,
      friendly_name: machine.friendlyName,
      policy_id: item.policyId,
      group_name: details.multiVmGroupName ?? null,
      phase: ENABLING.phase,
      phase_before: ENABLING.before,
      test: ENABLING.test,
      is_fenced: ENABLING.isFenced,
      target: JSON.stringify(targetFrom(details, sent)),
      excluded_disks: JSON.stringify(excluded),
      known_disks: "[]",
      process_server_id: isUuid(processServerId) ? processServerId : null,
      resync_request: 0,
      claim_grants: "{}",
      created_at: now,
      changed_at: now,
    })
    .onConflict((conflict) => conflict.doNothing())
    .executeTakeFirst();
  if (numInsertedOrUpdatedRows === 0n) throw itemExists(name);
  return id;
}

async function policyOf(tx: VaultTransaction, vaultId: Uuid, policyId: string): Promise<Uuid> {
  const name = decodeURIComponent(policyId.split("/").at(-1) ?? "").toLowerCase();
  const row = await tx
    .selectFrom("policy")
    .select(["id", "provider"])
    .where("vault_id", "=", vaultId)
    .where("key", "=", name)
    .executeTakeFirst();
  if (row === undefined) throw badRequest("properties.policyId", `there is no policy ${name}`);
  if (row.provider !== "InMageAzureV2")
    throw badRequest("properties.policyId", `policy ${name} is a failback policy`);
  return row.id;
}

function targetFrom(details: ProviderDetails, sent: JsonObject): TargetSettings {
  return {
    ...(details.targetAzureVmName === undefined ? {} : { vmName: details.targetAzureVmName }),
    ...(details.targetVmSize === undefined ? {} : { vmSize: details.targetVmSize }),
    ...(details.targetAzureNetworkId === undefined
      ? {}
      : { networkId: details.targetAzureNetworkId }),
    ...(details.targetAzureSubnetId === undefined
      ? {}
      : { subnetName: details.targetAzureSubnetId }),
    sent,
  };
}

/** Disks that a list of those to include leaves out, by identity. */
function excludedDisks(
  { disksToInclude }: ProviderDetails,
  disks: readonly { readonly identity: string; readonly name: string }[],
): readonly string[] {
  if (disksToInclude === undefined || disksToInclude.length === 0) return [];
  const wanted = new Set(disksToInclude.map(({ diskId }) => diskId.toLowerCase()));
  return disks
    .filter(({ identity, name }) => !wanted.has(identity.toLowerCase()) && !wanted.has(name))
    .map(({ identity }) => identity);
}
