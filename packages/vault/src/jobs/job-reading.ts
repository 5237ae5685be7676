import type { JobErrorTable, JobTable, JobTaskTable } from "../database/core-tables.ts";
import type { JsonObject, JsonValue } from "@osr/base/json-value";
import type { Uuid } from "@osr/base/uuid";

import type { VaultDatabase } from "../database/database.ts";

type Read<T> = {
  [K in keyof T]: K extends "details" ? JsonObject : K extends "input" ? JsonValue : T[K];
};
export type JobRow = Read<JobTable>;
type ErrorRow = Omit<JobErrorTable, "id">;

/** A job with its tasks and errors. */
export type JobReading = {
  readonly job: JobRow;
  readonly tasks: readonly JobTaskTable[];
  readonly errors: readonly ErrorRow[];
};

/** Tasks and errors of all these jobs, in two queries however many they are. */
export async function readJobs(
  database: VaultDatabase,
  jobs: readonly JobRow[],
): Promise<readonly JobReading[]> {
  if (jobs.length === 0) return [];
  const ids = jobs.map(({ id }) => id);
  const tasks = await database
    .selectFrom("job_task")
    .selectAll()
    .where("job_id", "in", ids)
    .orderBy("ordinal")
    .execute();
  const errors = await database
    .selectFrom("job_error")
    .selectAll()
    .where("job_id", "in", ids)
    .orderBy("id")
    .execute();
  return jobs.map((job) => ({
    job,
    tasks: tasks.filter((task) => task.job_id === job.id),
    errors: errors.filter((error) => error.job_id === job.id),
  }));
}

export async function readJob(
  database: VaultDatabase,
  vaultId: Uuid,
  jobId: Uuid,
): Promise<JobReading | undefined> {
  const job = await database
    .selectFrom("job")
    .selectAll()
    .where("vault_id", "=", vaultId)
    .where("id", "=", jobId)
    .executeTakeFirst();
  return job === undefined ? undefined : (await readJobs(database, [job]))[0];
}
