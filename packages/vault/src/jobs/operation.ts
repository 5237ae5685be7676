import type { OsrError } from "@osr/base/errors";
import type { JsonObject, JsonValue } from "@osr/base/json-value";
import type { Uuid } from "@osr/base/uuid";

import type { VaultTransaction } from "../database/database.ts";

/** A task of a job, shown as NotStarted from the beginning. */
export type TaskDescription = {
  /** ARM's taskId: `TestFailoverPreflightChecksTask`. Names the task in `OperationContext.task`. */
  readonly id: string;
  /** ARM's name: `VmTfoPrerequisitesCheck`. */
  readonly name: string;
  /** For people: "Prerequisites check for test failover". */
  readonly friendlyName: string;
};

/**
 * What a kind of job does. `run` is started again from its beginning after every crash: whatever it does outside of its context's
 * methods must be a pure function of its input and of their results, and it calls them in the same order each time.
 */
export type Operation<I extends JsonValue> = {
  /** ARM's scenarioName: `TestFailover`. */
  readonly kind: string;
  readonly tasks: readonly TaskDescription[];
  run(context: OperationContext, input: I): Promise<void>;
  /**
   * The job has failed or was cancelled: sets the domain free in the transaction that ends the job. Runs exactly once, and not where
   * the job succeeds.
   */
  ended?(tx: VaultTransaction, jobId: Uuid, input: I): Promise<void>;
  /**
   * Takes the domain again for a restart, in the transaction that opens the job anew; throws ArmError where its state does not allow it. Tasks and
   * transactions that were remembered are not run again. Absent: a job of this kind cannot be restarted.
   */
  restart?(tx: VaultTransaction, jobId: Uuid, input: I): Promise<void>;
};

export interface OperationContext {
  readonly jobId: Uuid;
  readonly vaultId: Uuid;
  /** Aborted when the job is cancelled or the vault stops. */
  readonly signal: AbortSignal;
  /** Grows with every vault process: side effects carry it, so that those of a process that was taken for dead can be told. */
  readonly leaseToken: number;
  /**
   * A task of the job, with its state and times in the job. Its result is remembered with its end, so it is not run again. Until then `work`
   * runs at least once: it is idempotent and carries jobId and leaseToken in its side effects. Where it throws, the task fails with the error's
   * code and hint; an error that is not caught fails the job.
   */
  task<T extends JsonValue>(id: string, work: (signal: AbortSignal) => Promise<T>): Promise<T>;
  /** Shows a task as skipped. */
  skip(id: string): Promise<void>;
  /** Shows a task as failed, with the error among the job's, while the job goes on: what it could not do is not needed. */
  fail(id: string, error: OsrError): Promise<void>;
  /**
   * Domain changes that carry their own checkpoint: `work` and the mark that it is done commit together, under the vault's lease, so it
   * happens exactly once. `name` is unique within the job.
   */
  transaction<T extends JsonValue>(
    name: string,
    work: (tx: VaultTransaction) => Promise<T>,
  ): Promise<T>;
  /** As `task`, for what is no task that people see: remembered, at least once. `name` is unique within the job. */
  step<T extends JsonValue>(name: string, work: (signal: AbortSignal) => Promise<T>): Promise<T>;
  /** A durable wait: after a crash only what is left of it is waited for. `name` is unique within the job. */
  sleep(name: string, ms: number): Promise<void>;
  /** Suspends the job until a person answers (JobEngine.resume). `name` is the id of one of its tasks, which shows the instructions. */
  waitForPerson(name: string, instructions: string): Promise<{ readonly comments: string }>;
  /** Of the whole job, 0 to 1000. Shown, not remembered. */
  progress(permille: number): Promise<void>;
  /** Replaces the job's `customDetails`. */
  details(details: JsonObject): Promise<void>;
}
