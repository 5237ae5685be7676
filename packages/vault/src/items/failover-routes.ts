import { type Shape, object, oneOf, optional, text } from "@osr/base/json-shape";
import { KIB } from "@osr/base/units";

import { badRequest } from "../arm/arm-error.ts";
import type { ArmAccepted, ResourceRoute, VaultRequest } from "../arm/resource-routes.ts";
import { routesOf } from "../arm/route-table.ts";
import type { VaultTransaction } from "../database/database.ts";
import type { VaultContext } from "../vault-context.ts";
import { startItemJob } from "./item-job.ts";
import { ITEM_ACTION, ITEM_PATH } from "./item-paths.ts";
import { type ItemRow, foundItem, targetOf } from "./item-row.ts";
import { pointChoice } from "./recovery-points.ts";
import { networkOf } from "./replica-spec.ts";

const ID_CHARS_MAX = 2048;
const COMMENTS_CHARS_MAX = 4 * KIB;
const id = optional(text(ID_CHARS_MAX));

type PointDetails = { readonly recoveryPointId?: string | undefined };
const details: Shape<PointDetails | undefined> = optional(
  object<PointDetails>({ recoveryPointId: id }),
);
type TestBody = {
  readonly properties: {
    readonly failoverDirection?: string | undefined;
    readonly networkType?: string | undefined;
    readonly networkId?: string | undefined;
    readonly providerSpecificDetails?: PointDetails | undefined;
  };
};
const testShape = object<TestBody>({
  properties: object<TestBody["properties"]>({
    failoverDirection: optional(text(64)),
    networkType: optional(text(64)),
    networkId: id,
    providerSpecificDetails: details,
  }),
});
type FailoverBody = {
  readonly properties: {
    readonly failoverDirection?: string | undefined;
    readonly sourceSiteOperations?: "Required" | "NotRequired" | undefined;
    readonly providerSpecificDetails?: PointDetails | undefined;
  };
};
const failoverShape = object<FailoverBody>({
  properties: object<FailoverBody["properties"]>({
    failoverDirection: optional(text(64)),
    sourceSiteOperations: optional(oneOf("Required", "NotRequired")),
    providerSpecificDetails: details,
  }),
});
type CleanupBody = { readonly properties?: { readonly comments?: string | undefined } | undefined };
const cleanupShape = object<CleanupBody>({
  properties: optional(
    object<{ comments?: string | undefined }>({ comments: optional(text(COMMENTS_CHARS_MAX)) }),
  ),
});
type PointBody = { readonly properties: { readonly recoveryPointId?: string | undefined } };
const pointShape = object<PointBody>({
  properties: object<PointBody["properties"]>({ recoveryPointId: id }),
});

/** What is done with an item beyond replicating it; each starts a job, or is refused with what is allowed. */
export function failoverRoutes(context: VaultContext): ResourceRoute[] {
  const act = (
    verb: string,
    summary: string,
    write: (
      request: VaultRequest,
      tx: VaultTransaction,
      context: VaultContext,
    ) => Promise<ArmAccepted>,
  ): ResourceRoute =>
    routesOf(ITEM_ACTION).act(ITEM_PATH, verb, summary, (request, tx) =>
      write(request, tx, context),
    );
  return [
    act("testFailover", "Boot the machine in a test network; replication goes on", testFailover),
    act("testFailoverCleanup", "Remove what a test failover made", cleanUp),
    act("unplannedFailover", "Run the machine at the recovery site from now on", failOver),
    act("applyRecoveryPoint", "Run the failed-over machine from another point", changePoint),
    act("failoverCommit", "Make a failover final", (request, tx) =>
      simple(request, tx, context, "CommitFailover", "Commit"),
    ),
    act("failoverCancel", "Give up a failover that is not committed", (request, tx) =>
      simple(request, tx, context, "CancelFailover", "Cancel failover"),
    ),
  ];
}

async function testFailover(
  request: VaultRequest,
  tx: VaultTransaction,
  context: VaultContext,
): Promise<ArmAccepted> {
  const row = await foundItem(request, tx, { isLocked: true });
  const input = testShape(request.body ?? null, "").properties;
  checkDirection(input.failoverDirection);
  const networkId = await chosenNetwork(tx, row, input);
  return await startItemJob(request, tx, context, {
    row,
    kind: "TestFailover",
    friendlyName: "Test failover",
    input: {
      point: await pointChoice(tx, row, input.providerSpecificDetails?.recoveryPointId),
      ...(networkId === undefined ? {} : { networkId }),
    },
    details: {
      instanceType: "TestFailoverJobDetails",
      testFailoverStatus: "Active",
      comments: null,
      networkName: networkId?.split("/").at(-1) ?? "isolated",
      networkFriendlyName: networkId?.split("/").at(-1) ?? "isolated",
      networkType: input.networkType ?? "NoNetworkAttachAsInput",
      protectedItemDetails: [],
    },
    resourcePath: request.resourcePath,
  });
}

/** The network that the request names, else the item's test network, else none: an isolated one is made. */
async function chosenNetwork(
  tx: VaultTransaction,
  row: ItemRow,
  input: TestBody["properties"],
): Promise<string | undefined> {
  const isNamed = input.networkType === "VmNetworkAsInput";
  if (isNamed && (input.networkId ?? "") === "")
    throw badRequest("properties.networkId", "is missing, and networkType is VmNetworkAsInput");
  const networkId = isNamed ? input.networkId : targetOf(row).testNetworkId;
  if (networkId !== undefined) await networkOf(tx, row.vault_id, networkId);
  return networkId;
}

async function cleanUp(
  request: VaultRequest,
  tx: VaultTransaction,
  context: VaultContext,
): Promise<ArmAccepted> {
  const row = await foundItem(request, tx, { isLocked: true });
  const { properties } = cleanupShape(request.body ?? {}, "");
  return await startItemJob(request, tx, context, {
    row,
    kind: "TestFailoverCleanup",
    friendlyName: "Test failover cleanup",
    input: { comments: properties?.comments ?? "" },
    resourcePath: request.resourcePath,
  });
}

async function failOver(
  request: VaultRequest,
  tx: VaultTransaction,
  context: VaultContext,
): Promise<ArmAccepted> {
  const row = await foundItem(request, tx, { isLocked: true });
  const input = failoverShape(request.body ?? null, "").properties;
  checkDirection(input.failoverDirection);
  const { networkId } = targetOf(row);
  if (networkId !== undefined) await networkOf(tx, row.vault_id, networkId);
  return await startItemJob(request, tx, context, {
    row,
    kind: "UnplannedFailover",
    friendlyName: "Failover",
    input: {
      point: await pointChoice(tx, row, input.providerSpecificDetails?.recoveryPointId),
      shutsDownSource: input.sourceSiteOperations === "Required",
    },
    resourcePath: request.resourcePath,
  });
}

async function changePoint(
  request: VaultRequest,
  tx: VaultTransaction,
  context: VaultContext,
): Promise<ArmAccepted> {
  const row = await foundItem(request, tx, { isLocked: true });
  const { recoveryPointId } = pointShape(request.body ?? null, "").properties;
  return await startItemJob(request, tx, context, {
    row,
    kind: "ApplyRecoveryPoint",
    friendlyName: "Change recovery point",
    input: { point: await pointChoice(tx, row, recoveryPointId) },
    resourcePath: request.resourcePath,
  });
}

async function simple(
  request: VaultRequest,
  tx: VaultTransaction,
  context: VaultContext,
  kind: "CommitFailover" | "CancelFailover",
  friendlyName: string,
): Promise<ArmAccepted> {
  const row = await foundItem(request, tx, { isLocked: true });
  const { resourcePath } = request;
  return await startItemJob(request, tx, context, {
    row,
    kind,
    friendlyName,
    input: {},
    resourcePath,
  });
}

/** Failing back is another operation, on an item that was reprotected. */
function checkDirection(direction: string | undefined): void {
  if (direction === undefined || direction.toLowerCase() === "primarytorecovery") return;
  throw badRequest("properties.failoverDirection", "must be PrimaryToRecovery for this item");
}
