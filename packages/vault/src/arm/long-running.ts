import type { JsonObject } from "@osr/base/json-value";
import { isoTime } from "@osr/base/platform/iso-time";
import type { Uuid } from "@osr/base/uuid";

import type { JobState } from "../database/core-tables.ts";
import type { VaultDatabase } from "../database/database.ts";
import type { ArmRequest, VaultRow } from "./resource-routes.ts";

/** A time that has not come: unstarted tasks have it. */
export const NO_TIME = "0001-01-01T00:00:00";

/**
 * Headers of a 202, as the real service has them: the last segment of Location is the job's name, which PowerShell relies on.
 */
export function acceptedHeaders(
  request: ArmRequest,
  vault: VaultRow,
  jobId: Uuid,
  retryAfterSeconds: number,
): Record<string, string> {
  const version = `api-version=${encodeURIComponent(request.apiVersion)}`;
  const at = (path: string): string => request.baseUrl + encodePath(path);
  return {
    "azure-asyncoperation": `${at(`${vault.armId}/replicationOperationStatus/${jobId}`)}?${version}`,
    location: `${at(`${request.resourcePath}/operationresults/${jobId}`)}?${version}`,
    "retry-after": String(retryAfterSeconds),
  };
}

function encodePath(path: string): string {
  return path.split("/").map(encodeURIComponent).join("/");
}

/**
 * Status words that clients know to be an end. Everything else makes them poll on, so a job that waits for a person stays InProgress until it is
 * answered, and no failed job keeps another word.
 */
const STATUS_WORDS: Readonly<Record<JobState, string>> = {
  NotStarted: "InProgress",
  InProgress: "InProgress",
  Suspended: "InProgress",
  Cancelling: "InProgress",
  Succeeded: "Succeeded",
  Failed: "Failed",
  Cancelled: "Canceled",
};

export type OperationStatus = {
  readonly isEnded: boolean;
  readonly hasFailed: boolean;
  readonly body: JsonObject;
};

/** The status object of a long-running operation, or undefined where the vault has no such job. */
export async function operationStatus(
  database: VaultDatabase,
  vaultId: Uuid,
  jobId: Uuid,
): Promise<OperationStatus | undefined> {
  const job = await database
    .selectFrom("job")
    .select(["id", "state", "permille", "created_at", "started_at", "ended_at"])
    .where("vault_id", "=", vaultId)
    .where("id", "=", jobId)
    .executeTakeFirst();
  if (job === undefined) return undefined;
  const hasFailed = job.state === "Failed" || job.state === "Cancelled";
  return {
    isEnded: job.ended_at !== null,
    hasFailed,
    body: {
      id: null,
      name: job.id,
      status: STATUS_WORDS[job.state],
      startTime: isoTime(job.started_at ?? job.created_at),
      endTime: job.ended_at === null ? null : isoTime(job.ended_at),
      percentComplete: job.permille / 10,
      properties: null,
      error: hasFailed ? await errorOf(database, jobId, job.state) : null,
    },
  };
}

async function errorOf(database: VaultDatabase, jobId: Uuid, state: JobState): Promise<JsonObject> {
  const errors = await database
    .selectFrom("job_error")
    .select(["code", "message", "possible_causes", "recommended_action"])
    .where("job_id", "=", jobId)
    .orderBy("id")
    .execute();
  const details = errors.map((error) => ({
    code: error.code,
    message: error.message,
    possibleCauses: error.possible_causes,
    recommendedAction: error.recommended_action,
  }));
  const last = details.at(-1);
  const cancelled = { code: "OperationCanceled", message: "The job was cancelled." };
  return {
    code: last?.code ?? (state === "Cancelled" ? cancelled.code : "OperationFailed"),
    message: last?.message ?? (state === "Cancelled" ? cancelled.message : "The job failed."),
    details,
  };
}
