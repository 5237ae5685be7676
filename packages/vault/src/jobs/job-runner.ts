import { OsrError, hasCode } from "@osr/base/errors";
import type { JsonValue } from "@osr/base/json-value";
import { SECOND_MS } from "@osr/base/units";
import { type Uuid, randomUuid } from "@osr/base/uuid";
import { assert } from "@osr/base/assert";
import { sql } from "kysely";

import type { VaultTransaction } from "../database/database.ts";
import { VAULT_ERRORS } from "../vault-errors.ts";
import { JobContext } from "./job-context.ts";
import type { JobEngine, NewJob } from "./job-engine.ts";
import type { JobPorts } from "./job-ports.ts";
import { insertJob } from "./job-rows.ts";
import type { Operation } from "./operation.ts";

const JOBS_AT_ONCE_MAX = 64;
const STOP_MS_MAX = 10 * SECOND_MS;

type AnyOperation = Operation<JsonValue>;
type RunningJob = { readonly controller: AbortController; readonly ended: Promise<void> };

/**
 * The job engine: our job, task and checkpoint rows are all its memory (docs/adr/0007). Whatever open job is not running here is started, at
 * start, when one was committed, and every few seconds; only the node that holds the lease does so, so a job runs once at a time.
 */
export class JobRunner implements JobEngine {
  readonly #options: JobPorts;
  readonly #operations = new Map<string, AnyOperation>();
  readonly #running = new Map<Uuid, RunningJob>();
  #listening: Disposable | undefined;
  #looking: Promise<void> = Promise.resolve();
  #mayLook = false;
  #isWanted = false;

  constructor(options: JobPorts) {
    this.#options = options;
  }

  register<I extends JsonValue>(operation: Operation<I>): void {
    assert(!this.#operations.has(operation.kind), `operation ${operation.kind} is registered`);
    // Methods are bivariant: the rows of a kind were all written by it.
    this.#operations.set(operation.kind, operation);
  }

  /** Starts with what an earlier process has left. */
  start(): void {
    this.#mayLook = true;
    this.#listening = this.#options.node.listen("osr_job", () => this.#look());
    this.#look();
  }

  /** Jobs under way stop where they are and go on at the next start. */
  async stop(): Promise<void> {
    this.#mayLook = false;
    this.#listening?.[Symbol.dispose]();
    await this.#looking;
    const reason = new OsrError(VAULT_ERRORS.VAULT_STOPPING, "the vault is being stopped");
    const running = [...this.#running.values()];
    for (const { controller } of running) controller.abort(reason);
    const { promise: late, resolve } = Promise.withResolvers<void>();
    using _ = this.#options.scheduler.after(STOP_MS_MAX, resolve);
    await Promise.race([late, Promise.all(running.map(({ ended }) => ended))]);
  }

  async enqueue(tx: VaultTransaction, job: NewJob): Promise<Uuid> {
    const operation = this.#operations.get(job.kind);
    assert(operation !== undefined, `there is no operation ${job.kind}`);
    const id = randomUuid(this.#options.randomness);
    const row = { ...job, id, state: "NotStarted", tasks: operation.tasks } as const;
    await insertJob(tx, row, this.#options.clock);
    await notify(tx);
    return id;
  }

  async record(tx: VaultTransaction, job: NewJob): Promise<Uuid> {
    const id = randomUuid(this.#options.randomness);
    const row = { ...job, id, state: "Succeeded", tasks: [] } as const;
    await insertJob(tx, row, this.#options.clock);
    return id;
  }

  async cancel(tx: VaultTransaction, jobId: Uuid): Promise<void> {
    const job = await lockJob(tx, jobId);
    if (job.ended_at !== null || !job.is_cancellable || job.state === "Cancelling")
      throw wrongState(`job ${jobId} is ${job.state} and cannot be cancelled`);
    await tx.updateTable("job").set({ state: "Cancelling" }).where("id", "=", jobId).execute();
    await notify(tx);
  }

  async restart(tx: VaultTransaction, jobId: Uuid): Promise<void> {
    const job = await lockJob(tx, jobId);
    const operation = this.#operations.get(job.kind);
    if (job.state !== "Failed" && job.state !== "Cancelled")
      throw wrongState(`job ${jobId} is ${job.state}, not Failed or Cancelled`);
    if (operation?.restart === undefined)
      throw wrongState(`a job of the kind ${job.kind} cannot be restarted`);
    await operation.restart(tx, jobId, job.input);
    await tx
      .updateTable("job")
      .set({ state: "NotStarted", ended_at: null, attempt: job.attempt + 1 })
      .where("id", "=", jobId)
      .execute();
    await tx.deleteFrom("job_error").where("job_id", "=", jobId).execute();
    await tx
      .updateTable("job_task")
      .set({ state: "NotStarted", started_at: null, ended_at: null })
      .where("job_id", "=", jobId)
      .where("state", "in", ["Failed", "Cancelled", "InProgress", "Suspended"])
      .execute();
    await notify(tx);
  }

  async resume(tx: VaultTransaction, jobId: Uuid, comments: string): Promise<void> {
    const job = await lockJob(tx, jobId);
    const waiting = await tx
      .selectFrom("job_task")
      .select("task_id")
      .where("job_id", "=", jobId)
      .where("state", "=", "Suspended")
      .executeTakeFirst();
    if (job.state !== "Suspended" || waiting === undefined)
      throw wrongState(`job ${jobId} is ${job.state} and waits for nobody`);
    await tx
      .insertInto("job_checkpoint")
      .values({
        job_id: jobId,
        name: `person:${waiting.task_id}`,
        result: JSON.stringify({ comments }),
        lease_token: this.#options.node.leaseToken,
        made_at: this.#options.clock.unixMs(),
      })
      .execute();
    await tx.updateTable("job").set({ state: "InProgress" }).where("id", "=", jobId).execute();
    await notify(tx);
  }

  isRestartable(kind: string): boolean {
    return this.#operations.get(kind)?.restart !== undefined;
  }

  /** Starts what is open and not running here; asked again while it looks, it looks once more. */
  #look(): void {
    if (this.#isWanted || !this.#mayLook) return;
    this.#isWanted = true;
    this.#looking = this.#lookAfter(this.#looking);
  }

  async #lookAfter(earlier: Promise<void>): Promise<void> {
    await earlier;
    this.#isWanted = false;
    try {
      await this.#startOpenJobs();
    } catch (error) {
      this.#options.log.debug("open jobs could not be listed", { error });
    }
  }

  async #startOpenJobs(): Promise<void> {
    const open = await this.#options.database
      .selectFrom("job")
      .select(["id", "state"])
      .where("ended_at", "is", null)
      .orderBy("created_at")
      .limit(JOBS_AT_ONCE_MAX)
      .execute();
    for (const { id, state } of open) {
      const running = this.#running.get(id);
      if (state === "Cancelling") running?.controller.abort(cancelled(id));
      if (running === undefined && this.#mayLook && this.#running.size < JOBS_AT_ONCE_MAX)
        this.#run(id);
    }
  }

  #run(jobId: Uuid): void {
    const controller = new AbortController();
    const context = new JobContext({
      ...this.#options,
      jobId,
      signal: controller.signal,
      operationOf: (kind) => this.#operations.get(kind),
    });
    const ended = context.run().then(
      () => this.#ended(jobId, true),
      (error: unknown) => {
        if (!hasCode(error, VAULT_ERRORS.VAULT_STOPPING))
          this.#options.log.error("a job stopped without an end", { jobId, error });
        this.#ended(jobId, false);
      },
    );
    this.#running.set(jobId, { controller, ended });
  }

  #ended(jobId: Uuid, isThrough: boolean): void {
    this.#running.delete(jobId);
    // One that broke off without an end is found by the next regular look, not at once: no busy loop.
    if (isThrough) this.#look();
  }
}

type JobRow = {
  readonly kind: string;
  readonly state: string;
  readonly input: JsonValue;
  readonly attempt: number;
  readonly is_cancellable: boolean;
  readonly ended_at: number | null;
};

async function lockJob(tx: VaultTransaction, jobId: Uuid): Promise<JobRow> {
  const row = await tx
    .selectFrom("job")
    .select(["kind", "state", "input", "attempt", "is_cancellable", "ended_at"])
    .where("id", "=", jobId)
    .forUpdate()
    .executeTakeFirst();
  if (row === undefined) throw new OsrError(VAULT_ERRORS.JOB_NOT_FOUND, `there is no job ${jobId}`);
  return row;
}

function wrongState(message: string): OsrError {
  return new OsrError(VAULT_ERRORS.JOB_STATE, message);
}

function cancelled(jobId: Uuid): OsrError {
  return new OsrError(VAULT_ERRORS.JOB_CANCELLED, `job ${jobId} was cancelled`);
}

/** Heard when the transaction commits. */
async function notify(tx: VaultTransaction): Promise<void> {
  await sql`notify osr_job`.execute(tx);
}
