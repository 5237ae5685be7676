import type { ASRTask, Job } from "@azure/arm-recoveryservices-siterecovery";

import { OsrError } from "@osr/base/errors";
import { SECOND_MS } from "@osr/base/units";

import { MANAGEMENT_ERRORS } from "./management-errors.ts";
import type { Management } from "./management.ts";
import { asking } from "./requests.ts";

const POLL_MS = SECOND_MS;
const ENDED = ["Succeeded", "Failed", "Cancelled"];
/** The clients' pollers are only used to begin: jobs are followed by their tasks, which says more. */
const NEVER_MS = 2 ** 31 - 1;

type Response = { readonly headers: { get(name: string): string | undefined } };
export type BeginOptions = {
  readonly onResponse: (response: Response) => void;
  readonly updateIntervalInMs: number;
  readonly abortSignal: AbortSignal;
};

/**
 * Begins a long-running operation and follows its job, task by task, to its end, unless `wait` is false. Gives the job,
 * or undefined where the vault was done at once. Throws REQUEST_REFUSED, JOB_FAILED.
 */
export async function runJob(
  management: Management,
  begin: (options: BeginOptions) => Promise<unknown>,
  { wait }: { readonly wait: boolean },
): Promise<Job | undefined> {
  const begun = new AbortController();
  let name: string | undefined;
  const onResponse = ({ headers }: Response): void => {
    name ??= lastSegment(headers.get("location") ?? headers.get("azure-asyncoperation"));
    // What follows are polls of the client, which nobody waits for.
    if (name !== undefined) begun.abort();
  };
  await asking(() =>
    begin({
      onResponse,
      updateIntervalInMs: NEVER_MS,
      abortSignal: AbortSignal.any([begun.signal, management.signal]),
    }),
  ).catch((error: unknown) => {
    if (name === undefined) throw error;
  });
  if (name === undefined) return undefined;
  return wait ? await followJob(management, name) : await readJob(management, name);
}

/** Waits until the job has ended, telling each change of its tasks. Throws JOB_FAILED, also where it was cancelled. */
export async function followJob(management: Management, name: string): Promise<Job> {
  const told = new Map<string, string>();
  for (;;) {
    const job = await readJob(management, name);
    for (const line of changedTasks(job, told)) management.narrate(line);
    const state = job.properties?.state ?? "";
    if (state === "Succeeded") return job;
    if (ENDED.includes(state)) throw jobFailed(job);
    await management.scheduler.sleep(POLL_MS, management.signal);
  }
}

export function readJob(management: Management, name: string): Promise<Job> {
  const { siteRecovery, vault, resourceGroup, signal: abortSignal } = management;
  return asking(() =>
    siteRecovery.replicationJobs.get(vault, resourceGroup, name, { abortSignal }),
  );
}

/** One line for each task whose state is not what was told before. */
export function changedTasks(job: Job, told: Map<string, string>): readonly string[] {
  const lines: string[] = [];
  for (const task of job.properties?.tasks ?? []) {
    const key = task.taskId ?? task.name ?? "";
    const state = task.state ?? "";
    if (told.get(key) === state || state === "NotStarted") continue;
    told.set(key, state);
    const why = state === "Failed" ? reasonsOf(job, task.taskId) : [];
    lines.push(
      [`${task.friendlyName ?? task.name ?? key}: ${state}${seconds(task)}`, ...why].join("; "),
    );
  }
  return lines;
}

function seconds({ startTime, endTime }: ASRTask): string {
  if (startTime === undefined || endTime === undefined) return "";
  const ms = endTime.getTime() - startTime.getTime();
  return ms < 0 ? "" : ` (${(ms / SECOND_MS).toFixed(1)} s)`;
}

function jobFailed(job: Job): OsrError {
  const { state } = job.properties ?? {};
  return new OsrError(
    MANAGEMENT_ERRORS.JOB_FAILED,
    [`job ${job.name ?? ""}: ${state ?? "ended"}`, ...reasonsOf(job)].join("; "),
  );
}

/** Errors of the job, or of one of its tasks alone. */
function reasonsOf(job: Job, taskId?: string): readonly string[] {
  return (job.properties?.errors ?? [])
    .filter((error) => taskId === undefined || error.taskId === taskId)
    .map(({ serviceErrorDetails: error }) =>
      [error?.code, error?.message, error?.recommendedAction].filter(Boolean).join(": "),
    );
}

function lastSegment(url: string | undefined): string | undefined {
  const path = url?.split("?", 1)[0];
  return path?.split("/").at(-1);
}
