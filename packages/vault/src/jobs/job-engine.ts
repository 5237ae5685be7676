import type { JsonObject, JsonValue } from "@osr/base/json-value";
import type { Uuid } from "@osr/base/uuid";

import type { VaultTransaction } from "../database/database.ts";
import type { Operation } from "./operation.ts";

/** What a job is about, as its ARM form shows it. */
export type JobTarget = {
  readonly id: string;
  readonly name: string;
  /** `ProtectionEntity`, `ProtectionProfile`, `Server`, `RecoveryPlan`, ... */
  readonly instanceType: string;
};

export type NewJob = {
  readonly vaultId: Uuid;
  /** `kind` of a registered operation; ARM's scenarioName. */
  readonly kind: string;
  /** For people: "Test failover". */
  readonly friendlyName: string;
  /** Handed to the operation. Durable, so it must stay readable for the next version. No secrets. */
  readonly input: JsonValue;
  readonly target: JobTarget;
  /** Path of the resource that the long-running operation ends with; what is not there any more by then counts as deleted. */
  readonly resourcePath: string;
  /** `customDetails` of the ARM job; `{instanceType: "AsrJobDetails"}` where absent. */
  readonly details?: JsonObject | undefined;
  /** Of the request, for logs and for `activityId`. */
  readonly activityId: string;
  /** Whether `cancel` is offered while it runs. */
  readonly isCancellable?: boolean | undefined;
};

/**
 * Durable operations. A job is a row of ours; a workflow engine only drives it and is hidden here.
 * The workflow's id is the job's id, so that starting it twice is starting it once.
 */
export interface JobEngine {
  /** Makes an operation known. Before `start`; throws INTERNAL_ASSERTION where the kind is known already. */
  register<I extends JsonValue>(operation: Operation<I>): void;
  /**
   * Inserts the job (NotStarted) and its tasks in the caller's transaction, so that the domain's "busy" and the job appear together.
   * It starts soon after the commit; a reconciler starts those whose process died between.
   */
  enqueue(tx: VaultTransaction, job: NewJob): Promise<Uuid>;
  /** Records an operation that was whole within the caller's transaction, as a job that has succeeded. */
  record(tx: VaultTransaction, job: NewJob): Promise<Uuid>;
  /**
   * Ends a job as Cancelled at its next step; its signal is aborted when the transaction has committed. Throws JOB_STATE where it has ended or is not
   * cancellable.
   */
  cancel(tx: VaultTransaction, jobId: Uuid): Promise<void>;
  /** Runs a failed or cancelled job again from the task at which it ended. Throws JOB_STATE in other states and for kinds without `restart`. */
  restart(tx: VaultTransaction, jobId: Uuid): Promise<void>;
  /** Answers `waitForPerson` of a suspended job. Throws JOB_STATE where nothing waits. */
  resume(tx: VaultTransaction, jobId: Uuid, comments: string): Promise<void>;
  /** True for kinds of jobs that `restart` takes. */
  isRestartable(kind: string): boolean;
}
