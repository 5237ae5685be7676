import { object, optional, text } from "@osr/base/json-shape";
import { KIB } from "@osr/base/units";
import { type Uuid, isUuid } from "@osr/base/uuid";

import { notFound } from "../arm/arm-error.ts";
import { type FilterTerm, filterTime, parseFilter } from "../arm/filter.ts";
import { operationStatus } from "../arm/long-running.ts";
import { pageOf, pageReply } from "../arm/paging.ts";
import {
  type ArmAccepted,
  type ArmReply,
  type ResourceRoute,
  type VaultRequest,
  accepted,
  ok,
} from "../arm/resource-routes.ts";
import { routesOf } from "../arm/route-table.ts";
import type { JobState } from "../database/core-tables.ts";
import type { VaultDatabase, VaultTransaction } from "../database/database.ts";
import { type JobReading, readJob, readJobs } from "../jobs/job-reading.ts";
import type { VaultContext } from "../vault-context.ts";
import { jobBody } from "./job-body.ts";

const COMMENTS_CHARS_MAX = 4 * KIB;
const FILTER_FIELDS = [
  "starttime",
  "endtime",
  "jobstatus",
  "state",
  "scenarioname",
  "affectedobjecttypes",
];
const EXPORTED_MAX = 1000;

const resumeShape = object<{ properties?: { comments?: string | undefined } | undefined }>({
  properties: optional(
    object<{ comments?: string | undefined }>({ comments: optional(text(COMMENTS_CHARS_MAX)) }),
  ),
});
type JobQuery = {
  readonly startTime?: string | undefined;
  readonly endTime?: string | undefined;
  readonly jobStatus?: string | undefined;
};
const exportShape = object<JobQuery>({
  startTime: optional(text(64)),
  endTime: optional(text(64)),
  jobStatus: optional(text(256)),
});

const COLLECTION = "V/replicationJobs";
const ACTION = "Microsoft.RecoveryServices/vaults/replicationJobs";
const route = routesOf(ACTION);

/** Jobs: what was asked for, how far it is, and what may be done about it. */
export function jobRoutes(context: VaultContext): ResourceRoute[] {
  const { jobs } = context;
  return [
    route.read(COLLECTION, "List jobs, newest first", (request, database) =>
      listJobs(request, database, context),
    ),
    route.read(
      `${COLLECTION}/{jobName}`,
      "Show a job with its tasks and errors",
      async (request, database) => shown(request, await foundJob(request, database), context),
    ),
    route.read(
      "V/replicationOperationStatus/{jobName}",
      "Status of a long-running operation",
      readStatus,
    ),
    route.read(
      "V/operationStatus/{jobName}",
      "Status of a long-running operation on the vault",
      readStatus,
    ),
    action("cancel", "Cancel a job", context, (tx, id) => jobs.cancel(tx, id)),
    action("restart", "Restart a failed job", context, (tx, id) => jobs.restart(tx, id)),
    action("resume", "Resume a job that waits for a person", context, (tx, id, request) => {
      const { properties } = resumeShape(request.body ?? {}, "");
      return jobs.resume(tx, id, properties?.comments ?? "");
    }),
    route.act(COLLECTION, "export", "Export jobs", (request, tx) =>
      exportJobs(request, tx, context),
    ),
    route.read(
      "V/OpenSiteRecovery/jobExports/{jobName}",
      "Download exported jobs",
      (request, database) => downloadExport(request, database, context),
    ),
  ];
}

/** Done at once: the job itself goes on, and its own status tells how. */
function action(
  verb: string,
  summary: string,
  context: VaultContext,
  act: (tx: VaultTransaction, jobId: Uuid, request: VaultRequest) => Promise<void>,
): ResourceRoute {
  return {
    method: "POST",
    path: `${COLLECTION}/{jobName}/${verb}`,
    action: `${ACTION}/${verb}/action`,
    summary,
    write: async (request, tx) => {
      const { job } = await foundJob(request, tx);
      await act(tx, job.id, request);
      return shown(request, await foundJob(request, tx), context);
    },
  };
}

function shown(request: VaultRequest, reading: JobReading, context: VaultContext): ArmReply {
  const body = jobBody(request.vault, reading, context.jobs);
  const { job } = reading;
  // In 2017 the job's own address was that of the operation, so the words of an operation's status are in it, too.
  const status =
    job.ended_at === null ? "InProgress" : job.state === "Cancelled" ? "Canceled" : job.state;
  return ok({ ...body, status });
}

async function foundJob(request: VaultRequest, database: VaultDatabase): Promise<JobReading> {
  const name = (request.parameters["jobName"] ?? "").toLowerCase();
  const reading = isUuid(name) ? await readJob(database, request.vault.id, name) : undefined;
  if (reading === undefined) throw notFound(`job ${name}`);
  return reading;
}

async function readStatus(request: VaultRequest, database: VaultDatabase): Promise<ArmReply> {
  const name = (request.parameters["jobName"] ?? "").toLowerCase();
  const status = isUuid(name) ? await operationStatus(database, request.vault.id, name) : undefined;
  if (status === undefined) throw notFound(`operation ${name}`);
  return ok(status.body);
}

async function listJobs(
  request: VaultRequest,
  database: VaultDatabase,
  context: VaultContext,
): Promise<ArmReply> {
  const terms = parseFilter(request.query.get("$filter"), FILTER_FIELDS);
  const page = pageOf(request);
  const [afterTime, afterId] = page.after ?? [];
  let query = filtered(database, request.vault.id, terms).limit(page.size + 1);
  if (typeof afterTime === "number" && isUuid(afterId))
    query = query.where((where) =>
      where.or([
        where("created_at", "<", afterTime),
        where.and([where("created_at", "=", afterTime), where("id", ">", afterId)]),
      ]),
    );
  const readings = await readJobs(database, await query.execute());
  return pageReply(
    request,
    page,
    readings,
    (reading) => jobBody(request.vault, reading, context.jobs),
    ({ job }) => [job.created_at, job.id],
  );
}

// oxlint-disable-next-line typescript/explicit-module-boundary-types -- kysely's own type of a query
function filtered(database: VaultDatabase, vaultId: Uuid, terms: readonly FilterTerm[]) {
  let query = database
    .selectFrom("job")
    .selectAll()
    .where("vault_id", "=", vaultId)
    .orderBy("created_at", "desc")
    .orderBy("id");
  for (const { field, operator, value } of terms) {
    if (field === "starttime")
      query = query.where("created_at", sqlOperator(operator, ">="), filterTime(value));
    else if (field === "endtime")
      query = query.where("created_at", sqlOperator(operator, "<="), filterTime(value));
    else if (field === "scenarioname") query = query.where("kind", "=", value);
    else if (field === "affectedobjecttypes")
      query = query.where("target_type", "in", value.split(","));
    else
      query = query.where(
        "state",
        "in",
        value.split(",").map((word) => word.trim() as JobState),
      );
  }
  return query;
}

/** `eq` on a time means from it on, or until it: that is how Microsoft's portal and PowerShell ask for a range. */
function sqlOperator(
  operator: FilterTerm["operator"],
  equal: ">=" | "<=",
): ">=" | "<=" | ">" | "<" {
  const operators = { eq: equal, ne: equal, ge: ">=", gt: ">", le: "<=", lt: "<" } as const;
  return operators[operator];
}

async function exportJobs(
  request: VaultRequest,
  tx: VaultTransaction,
  { jobs }: VaultContext,
): Promise<ArmAccepted> {
  const { startTime, endTime, jobStatus } = exportShape(request.body ?? {}, "");
  const terms = exportTerms({ startTime, endTime, jobStatus });
  const address = `${request.baseUrl}${request.vault.armId}/OpenSiteRecovery/jobExports`;
  const jobId = await jobs.record(tx, {
    vaultId: request.vault.id,
    kind: "ExportJobs",
    friendlyName: "Export jobs",
    input: terms.map((term) => ({ ...term })),
    target: { id: request.vault.armId, name: request.vault.name, instanceType: "Vault" },
    resourcePath: request.resourcePath,
    details: { instanceType: "ExportJobDetails", blobUri: address, sasToken: "" },
    activityId: request.activityId,
  });
  const resourcePath = `${request.vault.armId}/replicationJobs/${jobId}`;
  await tx
    .updateTable("job")
    .set({
      details: JSON.stringify({
        instanceType: "ExportJobDetails",
        blobUri: `${address}/${jobId}?api-version=${request.apiVersion}`,
        sasToken: "",
      }),
      resource_path: resourcePath,
    })
    .where("id", "=", jobId)
    .execute();
  return accepted(jobId, resourcePath);
}

function exportTerms({ startTime, endTime, jobStatus }: JobQuery): FilterTerm[] {
  if (startTime !== undefined) filterTime(startTime);
  if (endTime !== undefined) filterTime(endTime);
  const term = (field: string, value: string | undefined): FilterTerm[] =>
    value === undefined || value === "" ? [] : [{ field, operator: "eq", value }];
  return [
    ...term("starttime", startTime),
    ...term("endtime", endTime),
    ...term("jobstatus", jobStatus),
  ];
}

async function downloadExport(
  request: VaultRequest,
  database: VaultDatabase,
  context: VaultContext,
): Promise<ArmReply> {
  const { job } = await foundJob(request, database);
  if (job.kind !== "ExportJobs") throw notFound(`export ${job.id}`);
  // Written by exportJobs.
  const terms = job.input as unknown as FilterTerm[];
  const rows = await filtered(database, request.vault.id, terms).limit(EXPORTED_MAX).execute();
  const readings = await readJobs(database, rows);
  return ok({
    value: readings.map((one) => jobBody(request.vault, one, context.jobs)),
    nextLink: null,
  });
}
