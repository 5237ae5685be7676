import { ArmError } from "../arm/arm-error.ts";
import type { JsonObject, JsonValue } from "@osr/base/json-value";
import { uuidOfName, type Uuid } from "@osr/base/uuid";

import type { ArmAccepted, VaultRequest } from "../arm/resource-routes.ts";
import type { VaultTransaction } from "../database/database.ts";
import type { OperationContext, TaskDescription } from "../jobs/operation.ts";
import type { AskedBy } from "@osr/contracts/replica-host";
import type { VaultContext } from "../vault-context.ts";
import { type ItemRow, itemById, setItem, stateOf } from "./item-row.ts";
import { type ItemOperation, type ItemState, begun, failed, succeeded } from "./item-state.ts";

/** What every job of an item is given, beside what its kind needs. */
export type ItemJobInput = { readonly itemId: Uuid };

/** Kinds of jobs (ARM's scenarioName) by what they do to the item. */
export const ITEM_JOBS = {
  EnableDr: undefined,
  TestFailover: "TestFailover",
  TestFailoverCleanup: "TestFailoverCleanup",
  UnplannedFailover: "UnplannedFailover",
  ApplyRecoveryPoint: "ChangePit",
  CommitFailover: "Commit",
  CancelFailover: "CancelFailover",
  DisableDr: "DisableProtection",
} as const satisfies Record<string, ItemOperation | undefined>;
export type ItemJobKind = keyof typeof ITEM_JOBS;

/** Refuses what the item's state does not allow, takes the item and starts the job, all in the request's transaction. */
export async function startItemJob(
  request: VaultRequest,
  tx: VaultTransaction,
  context: VaultContext,
  job: {
    readonly row: ItemRow;
    readonly kind: Exclude<ItemJobKind, "EnableDr">;
    readonly friendlyName: string;
    readonly input: JsonObject;
    readonly details?: JsonObject;
    readonly resourcePath: string;
  },
): Promise<ArmAccepted> {
  const { row, kind, input } = job;
  const state = begun(stateOf(row), ITEM_JOBS[kind], row.name);
  const jobId = await context.jobs.enqueue(tx, {
    vaultId: row.vault_id,
    kind,
    friendlyName: job.friendlyName,
    input: { ...input, itemId: row.id },
    target: { id: row.machine_id, name: row.friendly_name, instanceType: "ProtectionEntity" },
    resourcePath: job.resourcePath,
    activityId: request.activityId,
    ...(job.details === undefined ? {} : { details: job.details }),
  });
  await setItem(tx, row.id, context.clock.unixMs(), state, { job: { id: jobId, kind } });
  return { acceptedJobId: jobId };
}

type ItemChange = Parameters<typeof setItem>[4];

/** The last step of a job that succeeds: the item's state, and what changes with it. */
export async function succeed(
  context: VaultContext,
  job: OperationContext,
  itemId: Uuid,
  operation: ItemOperation,
  more: ItemChange & { readonly tellsFabric?: boolean } = {},
): Promise<void> {
  const { tellsFabric = false, ...change } = more;
  await job.transaction("succeeded", async (tx) => {
    const row = await lockedItem(tx, itemId);
    await setItem(tx, itemId, context.clock.unixMs(), succeeded(stateOf(row), operation), change);
    if (tellsFabric) await context.fabrics.changed(tx, row.fabric_id);
    return null;
  });
  if (MUST_NOT_BE_LOST.includes(operation)) await context.sealing.sealed(job.vaultId, job.signal);
}

/** What has succeeded only when a vault that is rebuilt from the storage account knows of it. */
const MUST_NOT_BE_LOST: readonly ItemOperation[] = [
  "UnplannedFailover",
  "ChangePit",
  "Commit",
  "CancelFailover",
];

/** `ended` of an operation: the item goes back to what is true after a failure, and its fabric is told. */
export function afterFailure(
  context: VaultContext,
  operation: ItemOperation,
): (tx: VaultTransaction, jobId: Uuid, input: ItemJobInput) => Promise<void> {
  return async (tx, _jobId, { itemId }) => {
    const row = await lockedItem(tx, itemId);
    await setItem(tx, itemId, context.clock.unixMs(), failed(stateOf(row), operation));
    await context.fabrics.changed(tx, row.fabric_id);
  };
}

/**
 * `restart` of an operation: takes the item again, where its state still allows it and nothing else was done with it since: what the job did before it
 * failed, such as fencing the source, is not done again.
 */
export function takenAgain(
  context: VaultContext,
  operation: ItemOperation,
  kind: ItemJobKind,
): (tx: VaultTransaction, jobId: Uuid, input: ItemJobInput) => Promise<void> {
  return async (tx, jobId, { itemId }) => {
    const row = await lockedItem(tx, itemId);
    if (row.job_id !== jobId)
      throw new ArmError(
        409,
        "JobOutdated",
        `something else was done with ${row.name} since this job ended`,
        "Start the operation anew.",
      );
    const state: ItemState = begun(stateOf(row), operation, row.name);
    await setItem(tx, itemId, context.clock.unixMs(), state, { job: { id: jobId, kind } });
  };
}

/** The item, so that nothing else changes it until the transaction ends. */
export async function lockedItem(tx: VaultTransaction, itemId: Uuid): Promise<ItemRow> {
  await tx
    .selectFrom("protected_item")
    .select("id")
    .where("id", "=", itemId)
    .forUpdate()
    .executeTakeFirst();
  return itemById(tx, itemId);
}

/** A replica's id is a function of its job, so that a job that runs again starts the same one. */
export function replicaIdOf(jobId: Uuid): Uuid {
  return uuidOfName("replica", jobId);
}

export function askedBy({ jobId, leaseToken }: OperationContext): AskedBy {
  return { jobId, leaseToken };
}

export function taskOf(id: string, name: string, friendlyName: string): TaskDescription {
  return { id, name, friendlyName };
}

/** The item as it was when the job began: what the job does must not change while it runs again after a crash. */
export async function itemOf(
  context: VaultContext,
  job: OperationContext,
  itemId: Uuid,
): Promise<ItemRow> {
  return await job.step(
    "item",
    async () => (await itemById(context.database, itemId)) as ItemRow & JsonValue,
  );
}

/** Writes a job down that is done already: what was asked for happened in this transaction. */
export function recordItemJob(
  request: VaultRequest,
  tx: VaultTransaction,
  context: VaultContext,
  row: ItemRow,
  kind: string,
  friendlyName: string,
): Promise<Uuid> {
  return context.jobs.record(tx, {
    vaultId: row.vault_id,
    kind,
    friendlyName,
    input: {},
    target: { id: row.machine_id, name: row.friendly_name, instanceType: "ProtectionEntity" },
    resourcePath: request.resourcePath,
    activityId: request.activityId,
  });
}
