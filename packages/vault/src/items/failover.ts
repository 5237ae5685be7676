import { OsrError } from "@osr/base/errors";
import type { JsonValue } from "@osr/base/json-value";
import { MINUTE_MS } from "@osr/base/units";
import { type Uuid, uuidOfName } from "@osr/base/uuid";
import { diskIdOf } from "@osr/repository/disk-id";
import { fenceForFailover } from "@osr/repository/log-claim";

import type { Operation, OperationContext } from "../jobs/operation.ts";
import type { ReplicaNetwork, ReplicaPoint } from "@osr/contracts/replica-host";
import { forgetReplica, startReplica } from "../replicas/replica-machines.ts";
import type { VaultContext } from "../vault-context.ts";
import { VAULT_ERRORS } from "../vault-errors.ts";
import { claimGrantsOf, openedLog } from "./disk-grants.ts";
import {
  afterFailure,
  askedBy,
  lockedItem,
  replicaIdOf,
  succeed,
  takenAgain,
  taskOf,
  itemOf,
} from "./item-job.ts";
import {
  type ItemRow,
  replicaOf,
  reportedMachine,
  setItem,
  stateOf,
  targetOf,
} from "./item-row.ts";
import type { ItemOperation } from "./item-state.ts";
import { networkOf, replicaSpecOf } from "./replica-spec.ts";
import { preflight } from "./test-failover.ts";

/** A source that has not gone silent by then is failed over all the same: it is fenced anyway. */
const SHUT_DOWN_MS_MAX = 5 * MINUTE_MS;

export type FailoverInput = {
  readonly itemId: Uuid;
  readonly point: ReplicaPoint;
  readonly shutsDownSource: boolean;
};
export type PointInput = { readonly itemId: Uuid; readonly point: ReplicaPoint };

/**
 * Runs the item's machine at the recovery site from now on. Order: everything that can be refused is checked; the source is
 * shut down if asked for, and whether that worked changes nothing else; the item counts as fenced; its logs are fenced; only
 * then the point is chosen, so that it is the newest that there will ever be; then the machine starts.
 */
export function unplannedFailoverOperation(
  context: VaultContext,
): Operation<FailoverInput & JsonValue> {
  return {
    kind: "UnplannedFailover",
    tasks: [
      taskOf(
        "UnplannedFailoverPreflightChecksTask",
        "VmFoPrerequisitesCheck",
        "Prerequisites check for failover",
      ),
      taskOf("ShutdownSourceMachineTask", "VmFoShutdownSource", "Shut down the source machine"),
      taskOf("FenceSourceTask", "VmFoFenceSource", "Stop replication and fence the source"),
      taskOf("BootProtectedEntitiesTask", "VmFoBootVm", "Start the virtual machine"),
    ],
    run: async (job, { itemId, point, shutsDownSource }) => {
      const row = await itemOf(context, job, itemId);
      const network = await job.step("network", () => failoverNetwork(context, row));
      const spec = replicaSpecOf(row, {
        replicaId: replicaIdOf(job.jobId),
        point,
        network: network ?? undefined,
      });
      await job.task("UnplannedFailoverPreflightChecksTask", (signal) =>
        preflight(context, { ...spec, point }, signal),
      );
      if (shutsDownSource) await shutDownSource(context, job, row);
      else await job.skip("ShutdownSourceMachineTask");
      await job.transaction("fencing", async (tx) => {
        const now = await lockedItem(tx, itemId);
        await setItem(tx, itemId, context.clock.unixMs(), { ...stateOf(now), isFenced: true });
        await context.fabrics.changed(tx, now.fabric_id);
        return null;
      });
      await job.task("FenceSourceTask", (signal) => fenceSource(context, row, signal));
      const record = await startReplica(context, job, "BootProtectedEntitiesTask", spec);
      await succeed(context, job, itemId, "UnplannedFailover", {
        replica: record,
        lastFailoverAt: context.clock.unixMs(),
      });
    },
    ended: afterFailure(context, "UnplannedFailover"),
    restart: takenAgain(context, "UnplannedFailover", "UnplannedFailover"),
  };
}

/** Runs the failed-over machine from another point: what it wrote since the failover is given up. */
export function changePointOperation(context: VaultContext): Operation<PointInput & JsonValue> {
  return {
    kind: "ApplyRecoveryPoint",
    tasks: [
      taskOf(
        "ApplyRecoveryPointPreflightChecksTask",
        "VmChangePitPrerequisitesCheck",
        "Prerequisites check",
      ),
      taskOf("DeleteProtectedEntitiesTask", "VmChangePitDeleteVm", "Delete the virtual machine"),
      taskOf(
        "BootProtectedEntitiesTask",
        "VmChangePitBootVm",
        "Start the virtual machine from the recovery point",
      ),
    ],
    run: async (job, { itemId, point }) => {
      const row = await itemOf(context, job, itemId);
      const network = await job.step("network", () => failoverNetwork(context, row));
      const spec = replicaSpecOf(row, {
        replicaId: replicaIdOf(job.jobId),
        point,
        network: network ?? undefined,
      });
      await job.task("ApplyRecoveryPointPreflightChecksTask", (signal) =>
        preflight(context, spec, signal),
      );
      await job.task("DeleteProtectedEntitiesTask", async () => {
        const old = replicaOf(row.replica);
        if (old !== undefined) await context.replicas.destroy(old.replicaId, askedBy(job));
        return null;
      });
      // From here on no machine runs until the new one does, and the item says so if it doesn't.
      await replicaDeleted(context, job, row);
      const record = await startReplica(context, job, "BootProtectedEntitiesTask", spec);
      await succeed(context, job, itemId, "ChangePit", { replica: record });
    },
    ended: afterFailureToDelete(context, "ChangePit"),
  };
}

/** The failover is final: its recovery point can't be changed any more. */
export function commitOperation(context: VaultContext): Operation<{ readonly itemId: Uuid }> {
  return {
    kind: "CommitFailover",
    tasks: [taskOf("CommitFailoverTask", "VmCommitFailover", "Commit the failover")],
    run: async (job, { itemId }) => {
      await job.task("CommitFailoverTask", () => Promise.resolve(null));
      await succeed(context, job, itemId, "Commit");
    },
    ended: afterFailure(context, "Commit"),
  };
}

/**
 * Gives up a failover that was not committed: its machine is deleted, and the source gets the vault's permission to go on
 * with its logs, after comparing its disks with them.
 */
export function cancelFailoverOperation(
  context: VaultContext,
): Operation<{ readonly itemId: Uuid }> {
  return {
    kind: "CancelFailover",
    tasks: [
      taskOf("DeleteProtectedEntitiesTask", "VmCancelFoDeleteVm", "Delete the virtual machine"),
      taskOf(
        "ResumeReplicationTask",
        "VmCancelFoResumeReplication",
        "Let the source replicate again",
      ),
    ],
    run: async (job, { itemId }) => {
      const row = await itemOf(context, job, itemId);
      await job.task("DeleteProtectedEntitiesTask", async () => {
        const replica = replicaOf(row.replica);
        if (replica !== undefined) await context.replicas.destroy(replica.replicaId, askedBy(job));
        return null;
      });
      await replicaDeleted(context, job, row);
      const claimGrants = await job.task("ResumeReplicationTask", async (signal) =>
        claimGrantsOf(context, { ...(await machineOf(context, row)) }, signal),
      );
      await job.transaction("resync", async (tx) => {
        await tx
          .updateTable("protected_item")
          .set((item) => ({ resync_request: item("resync_request", "+", 1) }))
          .where("id", "=", itemId)
          .execute();
        return null;
      });
      await succeed(context, job, itemId, "CancelFailover", {
        claimGrants,
        tellsFabric: true,
      });
    },
    ended: afterFailureToDelete(context, "CancelFailover"),
  };
}

/** The failed-over machine is gone, and the item has none any more. */
async function replicaDeleted(
  context: VaultContext,
  job: OperationContext,
  { id, replica }: ItemRow,
): Promise<void> {
  await job.transaction("deleted", async (tx) => {
    const now = await lockedItem(tx, id);
    await setItem(tx, id, context.clock.unixMs(), stateOf(now), { replica: null });
    const old = replicaOf(replica);
    if (old !== undefined) await forgetReplica(tx, old.replicaId);
    return null;
  });
}

/** `ended` of an operation that begins with deleting the failed-over machine: where that has not come to pass, it runs on as it was. */
function afterFailureToDelete(
  context: VaultContext,
  operation: ItemOperation,
): ReturnType<typeof afterFailure> {
  return async (tx, jobId, input) => {
    const row = await lockedItem(tx, input.itemId);
    if (row.replica === null) return afterFailure(context, operation)(tx, jobId, input);
    const state = { ...stateOf(row), phase: row.phase_before };
    await setItem(tx, row.id, context.clock.unixMs(), state);
  };
}

async function machineOf(
  context: VaultContext,
  row: ItemRow,
): Promise<Parameters<typeof claimGrantsOf>[1]> {
  const machine = await reportedMachine(context.database, row);
  const disks = machine?.registration?.disks ?? [];
  return { vaultId: row.vault_id, machineId: row.machine_id, disks };
}

/** Asks the source to shut down; that it could not be is shown as a task that failed, and changes nothing else. */
async function shutDownSource(
  context: VaultContext,
  job: OperationContext,
  row: ItemRow,
): Promise<void> {
  const id = uuidOfName("order", job.jobId, "shut-down-machine");
  await job.transaction("order shut-down", async (tx) => {
    const order = { id, kind: "shut-down-machine", machineId: row.machine_id } as const;
    await context.fabrics.order(tx, row.fabric_id, order);
    return null;
  });
  const failure = await job.task("ShutdownSourceMachineTask", async (signal) => {
    try {
      const { state, error } = await context.fabrics.result(id, SHUT_DOWN_MS_MAX, signal);
      if (state === "succeeded") return null;
      const { code, hint } = { ...VAULT_ERRORS.ORDER_FAILED, ...error };
      return { code, hint, message: error?.message ?? "the source was not shut down" };
    } catch (error) {
      if (!(error instanceof OsrError) || signal.aborted) throw error;
      const { code, hint, message } = error;
      return { code, hint, message };
    }
  });
  if (failure === null) return;
  const error = new OsrError({ ...failure, retryable: false }, failure.message);
  context.log.warn("the source could not be shut down; it is fenced all the same", {
    machineId: row.machine_id,
    error,
  });
  await job.fail("ShutdownSourceMachineTask", error);
}

/** Closes the log of every disk of the machine that has one. */
async function fenceSource(
  context: VaultContext,
  row: ItemRow,
  signal: AbortSignal,
): Promise<readonly Uuid[]> {
  const { store, clock, randomness, vaultKey } = context;
  const machine = await reportedMachine(context.database, row);
  const fenced: Uuid[] = [];
  for (const { identity } of machine?.registration?.disks ?? []) {
    const diskId = diskIdOf(row.machine_id, identity);
    const { log, dataKey } = await openedLog(context, row.vault_id, diskId, signal);
    const owner = uuidOfName("vault", row.vault_id);
    await fenceForFailover(store, log, { dataKey, owner, clock, randomness, signal, vaultKey });
    fenced.push(diskId);
  }
  return fenced;
}

/** The network that the item is set to; null: none, so that the machine has no network card. */
async function failoverNetwork(
  context: VaultContext,
  row: ItemRow,
): Promise<ReplicaNetwork | null> {
  const { networkId } = targetOf(row);
  if (networkId === undefined) return null;
  return await networkOf(context.database, row.vault_id, networkId);
}
