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
    {
      method: "GET",
      path: "V/replicationProtectedItems",
      action: `${ITEM_ACTION}/read`,
      summary: "List the protected items of the vault",
      read: (request, database) => listed(request, database),
    },
    {
      method: "GET",
      path: ITEMS_PATH,
      action: `${ITEM_ACTION}/read`,
      summary: "List the protected items of a container",
      read: async (request, database) =>
        listed(request, database, (await foundContainer(request, database)).id),
    },
    {
      method: "GET",
      path: ITEM_PATH,
      action: `${ITEM_ACTION}/read`,
      summary: "Show a protected item",
      read: async (request, database) => {
        const { id } = await foundItem(request, database);
        const [reading] = await readItems(database, request.vault.id, { itemId: id });
        if (reading === undefined) throw notFound("the protected item");
        return ok(itemBody(request.vault, reading, context.clock.unixMs()));
      },
    },
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
    {
      method: "PUT",
      path: ITEM_PATH,
      action: `${ITEM_ACTION}/write`,
      summary: "Enable replication of a machine",
      write: (request, tx) => enableItem(request, tx, context),
    },
    {
      method: "PATCH",
      path: ITEM_PATH,
      action: `${ITEM_ACTION}/write`,
      summary: "Change what the machine will be at the recovery site",
      write: (request, tx) => updateItem(request, tx, context),
    },
    {
      method: "POST",
      path: `${ITEM_PATH}/remove`,
      action: `${ITEM_ACTION}/remove/action`,
      summary: "Disable replication",
      write: remove,
    },
    {
      method: "DELETE",
      path: ITEM_PATH,
      action: `${ITEM_ACTION}/delete`,
      summary: "Disable replication and keep the replicated data",
      write: remove,
    },
    {
      method: "POST",
      path: `${ITEM_PATH}/repairReplication`,
      action: `${ITEM_ACTION}/repairReplication/action`,
      summary: "Compare the machine's disks with what is replicated, and send what differs",
      write: (request, tx) => repairReplication(request, tx, context),
    },
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
