import type { Clock } from "@osr/base/clock";
import type { Uuid } from "@osr/base/uuid";

import type { VaultTransaction } from "../database/database.ts";
import type { NewJob } from "./job-engine.ts";
import type { TaskDescription } from "./operation.ts";

/** What a job's `customDetails` say where it has none of its own. */
const DETAILS_DEFAULT = { instanceType: "AsrJobDetails" };

/** Inserts a job and its tasks: `NotStarted`, or `Succeeded` where all of it is done in this transaction. */
export async function insertJob(
  tx: VaultTransaction,
  job: NewJob & {
    readonly id: Uuid;
    readonly state: "NotStarted" | "Succeeded";
    readonly tasks: readonly TaskDescription[];
  },
  clock: Clock,
): Promise<void> {
  const now = clock.unixMs();
  const isDone = job.state === "Succeeded";
  const times = isDone ? { started_at: now, ended_at: now } : { started_at: null, ended_at: null };
  await tx
    .insertInto("job")
    .values({
      id: job.id,
      vault_id: job.vaultId,
      kind: job.kind,
      friendly_name: job.friendlyName,
      state: job.state,
      input: JSON.stringify(job.input),
      target_id: job.target.id,
      target_name: job.target.name,
      target_type: job.target.instanceType,
      resource_path: job.resourcePath,
      details: JSON.stringify(job.details ?? DETAILS_DEFAULT),
      activity_id: job.activityId,
      is_cancellable: job.isCancellable ?? false,
      permille: isDone ? 1000 : 0,
      attempt: 0,
      created_at: now,
      ...times,
    })
    .execute();
  if (job.tasks.length === 0) return;
  const rows = job.tasks.map((task, ordinal) => ({
    job_id: job.id,
    ordinal,
    task_id: task.id,
    name: task.name,
    friendly_name: task.friendlyName,
    state: job.state,
    instructions: null,
    ...times,
  }));
  await tx.insertInto("job_task").values(rows).execute();
}
