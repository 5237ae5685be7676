import { object, oneOf, optional, text } from "@osr/base/json-shape";
import type { JsonObject } from "@osr/base/json-value";
import { GIB } from "@osr/base/units";
import type { Uuid } from "@osr/base/uuid";

import { ArmError, notFound } from "../arm/arm-error.ts";
import { pageOf, pageReply } from "../arm/paging.ts";
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
import { foundContainer } from "../resources/fabric-row.ts";
import type { VaultContext } from "../vault-context.ts";
import { enableItem } from "./enable-item.ts";
import { itemBody } from "./item-body.ts";
import { itemDiskRoutes } from "./item-disks.ts";
import { recordItemJob, startItemJob } from "./item-job.ts";
import { ITEMS_PATH, ITEM_ACTION, ITEM_PATH } from "./item-paths.ts";
import { readItems } from "./item-reading.ts";
import { type TargetSettings, foundItem, stateOf, targetOf } from "./item-row.ts";
import { requireAllowed } from "./item-state.ts";
import { TARGET_SIZES } from "./target-size.ts";

const route = routesOf(ITEM_ACTION);

const NAME_CHARS_MAX = 64;
const ID_CHARS_MAX = 2048;

type UpdateBody = {
  readonly properties: {
    readonly recoveryAzureVMName?: string | undefined;
    readonly recoveryAzureVMSize?: string | undefined;
    readonly selectedRecoveryAzureNetworkId?: string | undefined;
    readonly selectedTfoAzureNetworkId?: string | undefined;
  };
};
const updateShape = object<UpdateBody>({
  properties: object<UpdateBody["properties"]>({
    recoveryAzureVMName: optional(text(NAME_CHARS_MAX)),
    recoveryAzureVMSize: optional(text(NAME_CHARS_MAX)),
    selectedRecoveryAzureNetworkId: optional(text(ID_CHARS_MAX)),
    selectedTfoAzureNetworkId: optional(text(ID_CHARS_MAX)),
  }),
});

type RemoveBody = {
  readonly properties?:
    | {
        readonly replicationProviderInput?:
          | { readonly replicaVmDeletionStatus?: string | undefined }
          | undefined;
      }
    | undefined;
};
const removeShape = object<RemoveBody>({
  properties: optional(
    object<NonNullable<RemoveBody["properties"]>>({
      replicationProviderInput: optional(
        object<{ replicaVmDeletionStatus?: string | undefined }>({
          replicaVmDeletionStatus: optional(oneOf("Delete", "Retain", "NotSpecified")),
        }),
      ),
    }),
  ),
});

/** Protected items: reading, enabling, changing, disabling. What is done with a failover is in failover-routes.ts. */
export function itemRoutes(context: VaultContext): ResourceRoute[] {
  return [...readRoutes(context), ...writeRoutes(context), ...itemDiskRoutes(context)];
}

function readRoutes(context: VaultContext): ResourceRoute[] {
  const listed = async (
    request: VaultRequest,
    database: VaultDatabase,
    fabricId?: Uuid,
  ): Promise<ArmReply> => {
    const page = pageOf(request);
    const readings = await readItems(database, request.vault.id, {
      ...(fabricId === undefined ? {} : { fabricId }),
      after: page.after,
      limit: page.size + 1,
    });
    const now = context.clock.unixMs();
    return pageReply(
      request,
      page,
      readings,
      (reading) => itemBody(request.vault, reading, now),
      ({ row }) => [row.key, row.id],
    );
  };
  return [
    route.read(
      "V/replicationProtectedItems",
      "List the protected items of the vault",
      (request, database) => listed(request, database),
    ),
    route.read(ITEMS_PATH, "List the protected items of a container", async (request, database) =>
      listed(request, database, (await foundContainer(request, database)).id),
    ),
    route.read(ITEM_PATH, "Show a protected item", async (request, database) => {
      const { id: fabricId } = await foundContainer(request, database);
      const name = request.parameters["replicatedProtectedItemName"] ?? "";
      const key = name.toLowerCase();
      const [reading] = await readItems(database, request.vault.id, { fabricId, key });
      if (reading === undefined) throw notFound(`protected item ${name}`);
      return ok(itemBody(request.vault, reading, context.clock.unixMs()));
    }),
    {
      method: "GET",
      path: `${ITEM_PATH}/targetComputeSizes`,
      action: `${ITEM_ACTION}/targetComputeSizes/read`,
      summary: "List the sizes that the machine can have at the recovery site",
      read: async (request, database) => {
        await foundItem(request, database);
        return ok({ value: TARGET_SIZES.map(sizeBody), nextLink: null });
      },
    },
  ];
}

function sizeBody({ name, cpuCount, memoryBytes }: (typeof TARGET_SIZES)[number]): JsonObject {
  const properties = {
    name,
    friendlyName: name,
    cpuCoresCount: cpuCount,
    memoryInGB: memoryBytes / GIB,
  };
  return { id: name, name, type: "targetComputeSizes", properties };
}

function writeRoutes(context: VaultContext): ResourceRoute[] {
  const remove = (request: VaultRequest, tx: VaultTransaction): Promise<ArmReply | ArmAccepted> =>
    removeItem(request, tx, context);
  return [
    route.put(ITEM_PATH, "Enable replication of a machine", (request, tx) =>
      enableItem(request, tx, context),
    ),
    route.patch(ITEM_PATH, "Change what the machine will be at the recovery site", (request, tx) =>
      updateItem(request, tx, context),
    ),
    route.act(ITEM_PATH, "remove", "Disable replication", remove),
    route.remove(ITEM_PATH, "Disable replication and keep the replicated data", remove),
    route.act(
      ITEM_PATH,
      "repairReplication",
      "Compare the machine's disks with what is replicated, and send what differs",
      (request, tx) => repairReplication(request, tx, context),
    ),
  ];
}

async function updateItem(
  request: VaultRequest,
  tx: VaultTransaction,
  context: VaultContext,
): Promise<ArmAccepted> {
  const row = await foundItem(request, tx, { isLocked: true });
  requireAllowed(stateOf(row), "Update", row.name);
  const input = updateShape(request.body ?? null, "").properties;
  const old = targetOf(row);
  const target: TargetSettings = {
    ...old,
    vmName: input.recoveryAzureVMName ?? old.vmName,
    vmSize: input.recoveryAzureVMSize ?? old.vmSize,
    networkId: input.selectedRecoveryAzureNetworkId ?? old.networkId,
    testNetworkId: input.selectedTfoAzureNetworkId ?? old.testNetworkId,
  };
  await tx
    .updateTable("protected_item")
    .set({ target: JSON.stringify(target), changed_at: context.clock.unixMs() })
    .where("id", "=", row.id)
    .execute();
  // What was in the way may not be any more: the item is checked at the next look.
  await tx.deleteFrom("failover_check").where("item_id", "=", row.id).execute();
  return accepted(
    await recordItemJob(request, tx, context, row, "UpdateDr", "Update the virtual machine"),
  );
}

async function repairReplication(
  request: VaultRequest,
  tx: VaultTransaction,
  context: VaultContext,
): Promise<ArmAccepted> {
  const row = await foundItem(request, tx, { isLocked: true });
  requireAllowed(stateOf(row), "RepairReplication", row.name);
  await tx
    .updateTable("protected_item")
    .set((item) => ({ resync_request: item("resync_request", "+", 1) }))
    .where("id", "=", row.id)
    .execute();
  await context.fabrics.changed(tx, row.fabric_id);
  return accepted(
    await recordItemJob(request, tx, context, row, "RepairReplication", "Resynchronize"),
  );
}

async function removeItem(
  request: VaultRequest,
  tx: VaultTransaction,
  context: VaultContext,
): Promise<ArmReply | ArmAccepted> {
  let row: Awaited<ReturnType<typeof foundItem>>;
  try {
    row = await foundItem(request, tx, { isLocked: true });
  } catch (error) {
    if (error instanceof ArmError && error.status === 404 && request.body === undefined)
      return { status: 204 };
    throw error;
  }
  const input = request.body === undefined ? {} : removeShape(request.body, "");
  const wish = input.properties?.replicationProviderInput?.replicaVmDeletionStatus;
  return await startItemJob(request, tx, context, {
    row,
    kind: "DisableDr",
    friendlyName: "Disable replication",
    input: { deletesData: wish === "Delete" },
    resourcePath: request.resourcePath,
  });
}
