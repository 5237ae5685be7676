import { OsrError, hasCode, messageOf } from "@osr/base/errors";
import type { JsonObject, JsonValue } from "@osr/base/json-value";
import { SECOND_MS } from "@osr/base/units";
import type { Uuid } from "@osr/base/uuid";
import { sql } from "kysely";

import type { JobState, JobTaskTable } from "../database/core-tables.ts";
import { isDatabaseAway } from "../database/database-away.ts";
import type { VaultTransaction } from "../database/database.ts";
import { inTransaction } from "../database/transaction.ts";
import { VAULT_ERRORS } from "../vault-errors.ts";
import type { JobPorts } from "./job-ports.ts";
import type { Operation, OperationContext } from "./operation.ts";

const AWAY_RETRY_MS = 250;
const PERSON_POLL_MS = SECOND_MS;
const SLEEP_SLICE_MS = 60 * SECOND_MS;

type JobContextOptions = JobPorts & {
  readonly jobId: Uuid;
  readonly signal: AbortSignal;
  readonly operationOf: (kind: string) => Operation<JsonValue> | undefined;
};

type Outcome = {
  readonly state: "Succeeded" | "Failed" | "Cancelled";
  readonly error?: unknown;
};

/** What was remembered. The job itself has written it, so its type is the job's. */
type Checkpoint = { readonly result: JsonValue };

/** One run of a job in this process. */
export class JobContext implements OperationContext {
  readonly jobId: Uuid;
  readonly signal: AbortSignal;
  readonly leaseToken: number;
  vaultId: Uuid;
  readonly #options: JobContextOptions;
  /** The task under way, for the error of a job that fails within it. */
  #taskId: string | undefined;

  constructor(options: JobContextOptions) {
    this.#options = options;
    this.jobId = options.jobId;
    this.signal = options.signal;
    this.leaseToken = options.node.leaseToken;
    this.vaultId = options.jobId;
  }

  /** Runs the job to its end. Rejects where it stops without one: the vault is being stopped, or has lost its lease. */
  async run(): Promise<void> {
    const { log } = this.#options;
    const job = await this.#begin();
    if (job === undefined) return;
    this.vaultId = job.vault_id;
    const operation = this.#options.operationOf(job.kind);
    const logged = log.child({ jobId: this.jobId, kind: job.kind, activityId: job.activity_id });
    const outcome = await this.#outcome(operation, job);
    this.#crashPoint("job:run");
    await this.#end(operation, job.input, outcome);
    this.#crashPoint("job:ended");
    if (outcome.state === "Failed") logged.warn("job failed", { error: outcome.error });
    else logged.info(`job ${outcome.state.toLowerCase()}`);
  }

  async #outcome(
    operation: Operation<JsonValue> | undefined,
    job: { readonly kind: string; readonly state: JobState; readonly input: JsonValue },
  ): Promise<Outcome> {
    try {
      if (job.state === "Cancelling") return { state: "Cancelled" };
      if (operation === undefined) throw new TypeError(`this version has no operation ${job.kind}`);
      this.#crashPoint("job:begun");
      await operation.run(this, job.input);
      return { state: "Succeeded" };
    } catch (error) {
      const reason: unknown = this.signal.aborted ? this.signal.reason : error;
      if (hasCode(reason, VAULT_ERRORS.JOB_CANCELLED)) return { state: "Cancelled" };
      const isStopping =
        hasCode(reason, VAULT_ERRORS.VAULT_STOPPING) || hasCode(reason, VAULT_ERRORS.LEASE_LOST);
      if (isStopping) throw reason;
      return { state: "Failed", error };
    }
  }

  async task<T extends JsonValue>(
    id: string,
    work: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const name = `task:${id}`;
    const known = await this.#remembered(name);
    if (known !== undefined) return known.result as T;
    this.#taskId = id;
    await this.#durably((tx) => this.#setTask(tx, id, "InProgress"));
    this.#crashPoint(`${name}:begun`);
    const result = await this.#worked(work);
    this.#crashPoint(`${name}:worked`);
    await this.#durably(async (tx) => {
      await this.#remember(tx, name, result);
      await this.#setTask(tx, id, "Succeeded");
    });
    this.#crashPoint(`${name}:ended`);
    this.#taskId = undefined;
    return result;
  }

  async skip(id: string): Promise<void> {
    await this.#durably((tx) => this.#setTask(tx, id, "Skipped"));
  }

  async fail(id: string, error: OsrError): Promise<void> {
    await this.#durably(async (tx) => {
      await this.#setTask(tx, id, "Failed");
      const known = await tx
        .selectFrom("job_error")
        .select("id")
        .where("job_id", "=", this.jobId)
        .where("task_id", "=", id)
        .executeTakeFirst();
      if (known === undefined) await this.#insertError(tx, id, error, this.#options.clock.unixMs());
    });
  }

  async transaction<T extends JsonValue>(
    name: string,
    work: (tx: VaultTransaction) => Promise<T>,
  ): Promise<T> {
    const key = `transaction:${name}`;
    const known = await this.#remembered(key);
    if (known !== undefined) return known.result as T;
    const result = await this.#durably(async (tx) => {
      // Where an earlier commit's answer was lost, the mark is there and nothing is done twice.
      const done = await this.#checkpoint(tx, key);
      if (done !== undefined) return done.result as T;
      const made = await work(tx);
      await this.#remember(tx, key, made);
      this.#crashPoint(`${key}:worked`);
      return made;
    });
    this.#crashPoint(`${key}:committed`);
    return result;
  }

  async step<T extends JsonValue>(
    name: string,
    work: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const key = `step:${name}`;
    const known = await this.#remembered(key);
    if (known !== undefined) return known.result as T;
    const result = await this.#worked(work);
    this.#crashPoint(`${key}:worked`);
    await this.#durably((tx) => this.#remember(tx, key, result));
    this.#crashPoint(`${key}:ended`);
    return result;
  }

  async sleep(name: string, ms: number): Promise<void> {
    const { clock, scheduler } = this.#options;
    const key = `sleep:${name}`;
    const known = await this.#remembered(key);
    const untilMs = (known?.result as number | undefined) ?? clock.unixMs() + ms;
    if (known === undefined) await this.#durably((tx) => this.#remember(tx, key, untilMs));
    for (;;) {
      const left = Math.min(untilMs - clock.unixMs(), ms);
      if (left <= 0) return;
      await scheduler.sleep(Math.min(left, SLEEP_SLICE_MS), this.signal);
    }
  }

  async waitForPerson(name: string, instructions: string): Promise<{ readonly comments: string }> {
    const { node, scheduler } = this.#options;
    const key = `person:${name}`;
    this.#taskId = name;
    await this.#durably((tx) => this.#suspend(tx, name, instructions));
    this.#crashPoint(`${key}:suspended`);
    for (;;) {
      const waiting = new AbortController();
      using _ = node.listen("osr_job", () => waiting.abort());
      const answer = await this.#remembered(key);
      if (answer !== undefined) {
        await this.#durably((tx) => this.#setTask(tx, name, "Succeeded"));
        this.#taskId = undefined;
        return answer.result as { comments: string };
      }
      const signal = AbortSignal.any([waiting.signal, this.signal]);
      await scheduler.sleep(PERSON_POLL_MS, signal).catch(() => this.signal.throwIfAborted());
    }
  }

  async progress(permille: number): Promise<void> {
    const { database } = this.#options;
    const value = Math.max(0, Math.min(1000, Math.round(permille)));
    await database
      .updateTable("job")
      .set({ permille: value })
      .where("id", "=", this.jobId)
      .execute();
  }

  async details(details: JsonObject): Promise<void> {
    const text = JSON.stringify(details);
    await this.#durably(async (tx) => {
      await tx.updateTable("job").set({ details: text }).where("id", "=", this.jobId).execute();
    });
  }

  async #begin(): Promise<
    | {
        readonly vault_id: Uuid;
        readonly kind: string;
        readonly state: JobState;
        readonly input: JsonValue;
        readonly activity_id: string;
      }
    | undefined
  > {
    const { clock } = this.#options;
    return this.#durably(async (tx) => {
      const job = await tx
        .selectFrom("job")
        .select(["vault_id", "kind", "state", "input", "activity_id", "started_at", "ended_at"])
        .where("id", "=", this.jobId)
        .forUpdate()
        .executeTakeFirst();
      if (job === undefined || job.ended_at !== null) return undefined;
      if (job.state === "NotStarted")
        await tx
          .updateTable("job")
          .set({ state: "InProgress", started_at: job.started_at ?? clock.unixMs() })
          .where("id", "=", this.jobId)
          .execute();
      return job;
    });
  }

  /** The one place where a job ends: state, errors and what the domain does about it, together. */
  async #end(
    operation: Operation<JsonValue> | undefined,
    input: JsonValue,
    { state, error }: Outcome,
  ): Promise<void> {
    const now = this.#options.clock.unixMs();
    await this.#durably(async (tx) => {
      const { numUpdatedRows } = await tx
        .updateTable("job")
        .set({ state, ended_at: now, ...(state === "Succeeded" ? { permille: 1000 } : {}) })
        .where("id", "=", this.jobId)
        .where("ended_at", "is", null)
        .executeTakeFirst();
      if (numUpdatedRows === 0n || state === "Succeeded") return;
      await tx
        .updateTable("job_task")
        .set({ state, ended_at: now })
        .where("job_id", "=", this.jobId)
        .where("state", "in", ["InProgress", "Suspended"])
        .execute();
      if (state === "Failed") await this.#insertError(tx, this.#taskId, error, now);
      await operation?.ended?.(tx, this.jobId, input);
    });
  }

  async #insertError(
    tx: VaultTransaction,
    taskId: string | undefined,
    error: unknown,
    now: number,
  ): Promise<void> {
    const ours = error instanceof OsrError ? error : undefined;
    await tx
      .insertInto("job_error")
      .values({
        job_id: this.jobId,
        task_id: taskId ?? null,
        code: ours?.code ?? "INTERNAL",
        message: messageOf(error),
        possible_causes: ours?.cause === undefined ? "" : messageOf(ours.cause),
        recommended_action: ours?.hint ?? "This is a defect. Report it with the log.",
        occurred_at: now,
      })
      .execute();
  }

  /** `work`, again while the database it uses is away. */
  async #worked<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    return this.#whileAway(() => work(this.signal));
  }

  /** A transaction under the lease, again while the database is away. */
  async #durably<T>(work: (tx: VaultTransaction) => Promise<T>): Promise<T> {
    return this.#whileAway(() =>
      inTransaction(this.#options.database, async (tx) => {
        await this.#holdLease(tx);
        return work(tx);
      }),
    );
  }

  async #whileAway<T>(work: () => Promise<T>): Promise<T> {
    const isCancelled = (): boolean => hasCode(this.signal.reason, VAULT_ERRORS.JOB_CANCELLED);
    for (;;) {
      // The end of a cancelled job is still written.
      if (!isCancelled()) this.signal.throwIfAborted();
      try {
        return await work();
      } catch (error) {
        if (!isDatabaseAway(error)) throw error;
        this.#options.log.debug("the database is away; trying again", { jobId: this.jobId });
      }
      await this.#options.scheduler.sleep(AWAY_RETRY_MS);
    }
  }

  /** Nothing of a node that has lost its lease is committed. */
  async #holdLease(tx: VaultTransaction): Promise<void> {
    const { rows } = await sql<{ token: number }>`select token from lease for share`.execute(tx);
    if (rows[0]?.token !== this.leaseToken)
      throw new OsrError(VAULT_ERRORS.LEASE_LOST, "another vault has taken the lease");
  }

  async #remembered(name: string): Promise<Checkpoint | undefined> {
    this.signal.throwIfAborted();
    return this.#durably((tx) => this.#checkpoint(tx, name));
  }

  async #checkpoint(tx: VaultTransaction, name: string): Promise<Checkpoint | undefined> {
    const row = await tx
      .selectFrom("job_checkpoint")
      .select("result")
      .where("job_id", "=", this.jobId)
      .where("name", "=", name)
      .executeTakeFirst();
    return row === undefined ? undefined : { result: row.result };
  }

  async #remember(tx: VaultTransaction, name: string, result: JsonValue): Promise<void> {
    await tx
      .insertInto("job_checkpoint")
      .values({
        job_id: this.jobId,
        name,
        // A work that gives nothing gives null.
        result: JSON.stringify(result ?? null),
        lease_token: this.leaseToken,
        made_at: this.#options.clock.unixMs(),
      })
      .onConflict((conflict) => conflict.doNothing())
      .execute();
  }

  async #suspend(tx: VaultTransaction, name: string, instructions: string): Promise<void> {
    // The answer takes the same lock: a job that was suspended before a crash may be answered before it is suspended again.
    await tx.selectFrom("job").select("id").where("id", "=", this.jobId).forUpdate().execute();
    if ((await this.#checkpoint(tx, `person:${name}`)) !== undefined) return;
    await this.#setTask(tx, name, "Suspended", instructions);
    await tx.updateTable("job").set({ state: "Suspended" }).where("id", "=", this.jobId).execute();
  }

  async #setTask(
    tx: VaultTransaction,
    taskId: string,
    state: JobTaskTable["state"],
    instructions?: string,
  ): Promise<void> {
    const now = this.#options.clock.unixMs();
    const isEnd = state === "Succeeded" || state === "Skipped" || state === "Failed";
    await tx
      .updateTable("job_task")
      .set((row) => ({
        state,
        started_at: row.fn.coalesce("started_at", row.val(now)),
        ended_at: isEnd ? now : null,
        ...(instructions === undefined ? {} : { instructions }),
      }))
      .where("job_id", "=", this.jobId)
      .where("task_id", "=", taskId)
      .execute();
  }

  #crashPoint(name: string): void {
    this.#options.crashPoint(name);
  }
}
