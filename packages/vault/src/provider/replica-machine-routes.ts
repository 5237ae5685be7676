import type { JsonObject } from "@osr/base/json-value";
import { type Uuid, isUuid } from "@osr/base/uuid";
import type { ReplicaFacts } from "@osr/contracts/replica-host";

import { ArmError, notFound } from "../arm/arm-error.ts";
import { type ResourceRoute, type VaultRequest, accepted, ok } from "../arm/resource-routes.ts";
import { routesOf } from "../arm/route-table.ts";
import type { VaultDatabase, VaultTransaction } from "../database/database.ts";
import { askedBy, replicaIdOf, taskOf } from "../items/item-job.ts";
import type { Operation } from "../jobs/operation.ts";
import { forgetReplica, replicasOf } from "../replicas/replica-machines.ts";
import type { VaultContext } from "../vault-context.ts";

const PATH = "V/OpenSiteRecovery/replicas";
const ACTION = "OpenSiteRecovery/replicas";
const route = routesOf(ACTION);

type DeleteInput = { readonly replicaId: Uuid };

/**
 * Machines that run at the recovery site. Disabling an item leaves its failed-over machine alone, since it is in use by then;
 * whoever needs it no more deletes it here.
 */
export function replicaMachineRoutes(context: VaultContext): ResourceRoute[] {
  return [
    route.read(
      PATH,
      "List the machines that run at the recovery site",
      async (request, database) => {
        const own = await replicasOf(database, request.vault.id);
        const all = (await context.replicas.list()).filter(({ replicaId }) => own.has(replicaId));
        return ok({ value: all.map((facts) => replicaBody(request, facts)), nextLink: null });
      },
    ),
    route.remove(
      `${PATH}/{replicaId}`,
      "Delete a machine of the recovery site that no protected item has any more",
      async (request, tx) => {
        const replicaId = (request.parameters["replicaId"] ?? "").toLowerCase();
        const own = await replicasOf(tx, request.vault.id);
        if (!isUuid(replicaId) || !own.has(replicaId)) throw notFound(`replica ${replicaId}`);
        await refuseWhereUsed(tx, replicaId);
        await refuseWhereStarting(tx, request.vault.id, replicaId);
        return accepted(
          await context.jobs.enqueue(tx, {
            vaultId: request.vault.id,
            kind: "DeleteReplica",
            friendlyName: "Delete a machine of the recovery site",
            input: { replicaId },
            target: { id: replicaId, name: replicaId, instanceType: "Vm" },
            resourcePath: request.resourcePath,
            activityId: request.activityId,
          }),
        );
      },
    ),
  ];
}

/** The job behind the deletion; of a machine that is gone it succeeds. */
export function deleteReplicaOperation(context: VaultContext): Operation<DeleteInput> {
  return {
    kind: "DeleteReplica",
    tasks: [taskOf("DeleteReplicaTask", "VmDelete", "Delete the virtual machine")],
    run: async (job, { replicaId }) => {
      await job.task("DeleteReplicaTask", async () => {
        await context.replicas.destroy(replicaId, askedBy(job));
        return null;
      });
      await job.transaction("deleted", async (tx) => {
        await forgetReplica(tx, replicaId);
        return null;
      });
    },
  };
}

/** Throws ArmError 409 where a failover or a test failover of an item runs in it. */
async function refuseWhereUsed(
  tx: VaultTransaction | VaultDatabase,
  replicaId: Uuid,
): Promise<void> {
  const rows = await tx
    .selectFrom("protected_item")
    .select(["name", "replica", "test_replica"])
    .where((where) =>
      where.or([where("replica", "is not", null), where("test_replica", "is not", null)]),
    )
    .execute();
  const user = rows.find(({ replica, test_replica: test }) =>
    [replica, test].some((record) => record?.["replicaId"] === replicaId),
  );
  if (user !== undefined)
    throw new ArmError(
      409,
      "ReplicaInUse",
      `the machine belongs to the protected item ${user.name}`,
      "Clean up its test failover, cancel its failover, or disable its replication first.",
    );
}

/** Throws ArmError 409 where a job starts it: its item would say of a machine that is gone that it runs. */
async function refuseWhereStarting(
  tx: VaultTransaction | VaultDatabase,
  vaultId: Uuid,
  replicaId: Uuid,
): Promise<void> {
  const open = await tx
    .selectFrom("job")
    .select(["id", "friendly_name"])
    .where("vault_id", "=", vaultId)
    .where("ended_at", "is", null)
    .execute();
  const starter = open.find(({ id }) => replicaIdOf(id) === replicaId);
  if (starter !== undefined)
    throw new ArmError(
      409,
      "ReplicaInUse",
      `the job ${starter.id} (${starter.friendly_name}) starts the machine`,
      "Wait until the job has ended.",
    );
}

function replicaBody(request: VaultRequest, facts: ReplicaFacts): JsonObject {
  const { replicaId, machineId, name, state, point, network, isLocal } = facts;
  return {
    id: `${request.vault.armId}/OpenSiteRecovery/replicas/${replicaId}`,
    name: replicaId,
    type: "OpenSiteRecovery/replicas",
    properties: {
      friendlyName: name,
      machineId,
      state,
      isLocal,
      network: network ?? null,
      slot: point.slot,
    },
  };
}
