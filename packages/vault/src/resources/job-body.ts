import type { JsonObject } from "@osr/base/json-value";
import { isoTime } from "@osr/base/platform/iso-time";

import { NO_TIME } from "../arm/long-running.ts";
import type { VaultRow } from "../arm/resource-routes.ts";
import type { JobState, JobTaskTable } from "../database/core-tables.ts";
import type { JobEngine } from "../jobs/job-engine.ts";
import type { JobReading } from "../jobs/job-reading.ts";
import { resourceBody } from "./resource-body.ts";

/** ARM knows no Cancelling; a skipped task is Other with a description. */
const STATES: Readonly<Record<JobState | JobTaskTable["state"], string>> = {
  NotStarted: "NotStarted",
  InProgress: "InProgress",
  Suspended: "Suspended",
  Cancelling: "InProgress",
  Succeeded: "Succeeded",
  Failed: "Failed",
  Cancelled: "Cancelled",
  Skipped: "Other",
};
const DESCRIPTIONS: Readonly<Record<JobState | JobTaskTable["state"], string>> = {
  NotStarted: "NotStarted",
  InProgress: "InProgress",
  Suspended: "Suspended",
  Cancelling: "Cancelling",
  Succeeded: "Completed",
  Failed: "Failed",
  Cancelled: "Cancelled",
  Skipped: "Skipped",
};

/** A job as ARM shows it. */
export function jobBody(vault: VaultRow, reading: JobReading, jobs: JobEngine): JsonObject {
  const { job, tasks, errors } = reading;
  return resourceBody(vault, ["replicationJobs", job.id], {
    activityId: job.activity_id,
    scenarioName: job.kind,
    friendlyName: job.friendly_name,
    state: STATES[job.state],
    stateDescription: DESCRIPTIONS[job.state],
    tasks: tasks.map(taskBody),
    errors: errors.map((error) => ({
      errorLevel: "Error",
      creationTime: isoTime(error.occurred_at),
      taskId: error.task_id,
      serviceErrorDetails: {
        code: error.code,
        message: error.message,
        possibleCauses: error.possible_causes,
        recommendedAction: error.recommended_action,
        activityId: job.activity_id,
      },
      providerErrorDetails: null,
    })),
    startTime: isoTime(job.started_at ?? job.created_at),
    endTime: job.ended_at === null ? null : isoTime(job.ended_at),
    allowedActions: allowedActions(reading, jobs),
    targetObjectId: job.target_id,
    targetObjectName: job.target_name,
    targetInstanceType: job.target_type,
    customDetails: job.details,
    openSiteRecovery: { percentComplete: job.permille / 10, attempt: job.attempt },
  });
}

function taskBody(task: JobTaskTable): JsonObject {
  const details: JsonObject =
    task.instructions === null
      ? { instanceType: "TaskDetails" }
      : {
          instanceType: "ManualActionTaskDetails",
          name: task.name,
          instructions: task.instructions,
          observation: "",
        };
  return {
    taskId: task.task_id,
    name: task.name,
    startTime: task.started_at === null ? NO_TIME : isoTime(task.started_at),
    endTime: task.ended_at === null ? NO_TIME : isoTime(task.ended_at),
    allowedActions: task.state === "Suspended" ? ["Resume"] : [],
    friendlyName: task.friendly_name,
    state: STATES[task.state],
    stateDescription: DESCRIPTIONS[task.state],
    taskType: "TaskDetails",
    customDetails: details,
    groupTaskCustomDetails: null,
    errors: [],
  };
}

function allowedActions({ job }: JobReading, jobs: JobEngine): string[] {
  const isOpen = job.ended_at === null;
  const hasFailed = job.state === "Failed" || job.state === "Cancelled";
  return [
    ...(isOpen && job.is_cancellable && job.state !== "Cancelling" ? ["Cancel"] : []),
    ...(job.state === "Suspended" ? ["Resume"] : []),
    ...(hasFailed && jobs.isRestartable(job.kind) ? ["Restart"] : []),
  ];
}
