import type { JsonObject } from "@osr/base/json-value";
import type { Uuid } from "@osr/base/uuid";
import type { ReplicaSpec } from "@osr/contracts/replica-host";

import type { VaultDatabase, VaultTransaction } from "../database/database.ts";
import type { OperationContext } from "../jobs/operation.ts";
import type { VaultContext } from "../vault-context.ts";
import { recordOf } from "./replica-host.ts";

/**
 * Starts a machine at the recovery site as a task of the job, and gives what the vault keeps of it. Order: it is known to be the vault's before there is
 * one, so that no machine runs that nobody can list and delete.
 */
export async function startReplica(
  context: VaultContext,
  job: OperationContext,
  taskId: string,
  spec: ReplicaSpec,
): Promise<JsonObject> {
  const { replicaId, machineId } = spec;
  await job.transaction("replica", async (tx) => {
    await tx
      .insertInto("replica_machine")
      .values({
        id: replicaId,
        vault_id: job.vaultId,
        machine_id: machineId,
        created_at: context.clock.unixMs(),
      })
      .onConflict((conflict) => conflict.doNothing())
      .execute();
    return null;
  });
  const by = { jobId: job.jobId, leaseToken: job.leaseToken };
  return job.task(taskId, async (signal) =>
    recordOf(await context.replicas.start(spec, by, signal)),
  );
}

/** The machine is gone, or nothing is left of its start. */
export async function forgetReplica(tx: VaultTransaction, replicaId: Uuid): Promise<void> {
  await tx.deleteFrom("replica_machine").where("id", "=", replicaId).execute();
}

/** Machines that the vault has started; some may never have run. */
export async function replicasOf(
  database: VaultDatabase | VaultTransaction,
  vaultId: Uuid,
): Promise<ReadonlySet<Uuid>> {
  const rows = await database
    .selectFrom("replica_machine")
    .select("id")
    .where("vault_id", "=", vaultId)
    .execute();
  return new Set(rows.map(({ id }) => id));
}
