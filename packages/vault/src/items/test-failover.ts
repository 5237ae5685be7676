import { OsrError } from "@osr/base/errors";
import type { JsonValue } from "@osr/base/json-value";
import type { Uuid } from "@osr/base/uuid";

import { recordEvent } from "../events/record-event.ts";
import type { Operation, OperationContext } from "../jobs/operation.ts";
import { REPLICA_ERRORS } from "../replicas/replica-errors.ts";
import type { ReplicaNetwork, ReplicaPoint, ReplicaSpec } from "@osr/contracts/replica-host";
import { forgetReplica, startReplica } from "../replicas/replica-machines.ts";
import type { VaultContext } from "../vault-context.ts";
import {
  afterFailure,
  askedBy,
  lockedItem,
  replicaIdOf,
  succeed,
  taskOf,
  itemOf,
} from "./item-job.ts";
import { type ItemRow, itemById, replicaOf, setItem, stateOf } from "./item-row.ts";
import { succeeded } from "./item-state.ts";
import { isolatedNetwork, networkOf, replicaSpecOf } from "./replica-spec.ts";

export type TestFailoverInput = {
  readonly itemId: Uuid;
  readonly point: ReplicaPoint;
  /** ARM id or name; absent: an isolated network is made for the test. */
  readonly networkId?: string;
};
export type TestFailoverCleanupInput = { readonly itemId: Uuid; readonly comments: string };

/** Boots the item's machine in a test network; its replication and its source are not touched. */
export function testFailoverOperation(
  context: VaultContext,
): Operation<TestFailoverInput & JsonValue> {
  return {
    kind: "TestFailover",
    tasks: [
      taskOf(
        "TestFailoverPreflightChecksTask",
        "VmTfoPrerequisitesCheck",
        "Prerequisites check for test failover",
      ),
      taskOf("BeginTestFailoverTask", "VmTfoInitiateFailover", "Create the test environment"),
      taskOf(
        "PrepareTestProtectedEntitiesTask",
        "VmTfoPrepareTestVm",
        "Create the test virtual machine",
      ),
      taskOf("BootTestProtectedEntitiesTask", "VmTfoBootTestVm", "Start the virtual machine"),
    ],
    run: async (job, { itemId, point, networkId }) => {
      const row = await itemOf(context, job, itemId);
      const network = await job.step("network", () => testNetwork(context, job, row, networkId));
      const spec = replicaSpecOf(row, { replicaId: replicaIdOf(job.jobId), point, network });
      await job.task("TestFailoverPreflightChecksTask", (signal) =>
        preflight(context, spec, signal),
      );
      await job.skip("BeginTestFailoverTask");
      await job.skip("PrepareTestProtectedEntitiesTask");
      const record = await startReplica(context, job, "BootTestProtectedEntitiesTask", spec);
      await succeed(context, job, itemId, "TestFailover", { testReplica: record });
    },
    ended: async (tx, jobId, input) => {
      await afterFailure(context, "TestFailover")(tx, jobId, input);
      await tx
        .updateTable("protected_item")
        .set({ test_replica: null })
        .where("id", "=", input.itemId)
        .execute();
    },
  };
}

/** Removes what a test failover made. The test counts from then on. */
export function testFailoverCleanupOperation(
  context: VaultContext,
): Operation<TestFailoverCleanupInput & JsonValue> {
  return {
    kind: "TestFailoverCleanup",
    tasks: [
      taskOf(
        "TestFailoverCleanupPreflightChecksTask",
        "VmTfoCleanupPreflightsCheck",
        "Prerequisites check for cleanup",
      ),
      taskOf("EndTestFailoverTask", "VmTfoEndFailover", "Clean up the test environment"),
      taskOf(
        "CleanupTestProtectedEntitiesTask",
        "VmTfoDeleteTestVm",
        "Delete the test virtual machine",
      ),
    ],
    run: async (job, { itemId, comments }) => {
      const replicaId = await job.task("TestFailoverCleanupPreflightChecksTask", async () => {
        const row = await itemById(context.database, itemId);
        return replicaOf(row.test_replica)?.replicaId ?? null;
      });
      await job.skip("EndTestFailoverTask");
      await job.task("CleanupTestProtectedEntitiesTask", async () => {
        if (replicaId !== null) await context.replicas.destroy(replicaId, askedBy(job));
        return null;
      });
      await job.transaction("succeeded", async (tx) => {
        const row = await lockedItem(tx, itemId);
        const now = context.clock.unixMs();
        await setItem(tx, itemId, now, succeeded(stateOf(row), "TestFailoverCleanup"), {
          testReplica: null,
          lastTestFailoverAt: now,
        });
        if (replicaId !== null) await forgetReplica(tx, replicaId);
        await recordEvent(
          tx,
          {
            vaultId: row.vault_id,
            code: "TEST_FAILOVER_COMPLETED",
            eventType: "VmHealth",
            severity: "Info",
            description: `Test failover of ${row.friendly_name} cleaned up. Notes: ${comments}`,
            affected: { id: row.machine_id, name: row.friendly_name },
            fabricId: row.fabric_id,
          },
          context,
        );
        return null;
      });
    },
    ended: afterFailure(context, "TestFailoverCleanup"),
  };
}

async function testNetwork(
  context: VaultContext,
  job: OperationContext,
  row: ItemRow,
  networkId: string | undefined,
): Promise<ReplicaNetwork> {
  const network =
    networkId === undefined
      ? await isolatedNetwork(context.database, row, job.jobId)
      : await networkOf(context.database, row.vault_id, networkId);
  return network;
}

/** Throws REPLICA_REFUSED with all that keeps the machine from running. */
export async function preflight(
  context: VaultContext,
  spec: ReplicaSpec,
  signal: AbortSignal,
): Promise<null> {
  const found = await context.replicas.preflight(spec, signal);
  const objections = found.filter(({ level }) => level === "error");
  if (objections.length === 0) return null;
  throw new OsrError(
    REPLICA_ERRORS.REPLICA_REFUSED,
    objections.map(({ code, message }) => `${code}: ${message}`).join("; "),
    { details: { objections } },
  );
}
