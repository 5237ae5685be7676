import { sql } from "kysely";

import { OsrError, defineErrors } from "@osr/base/errors";
import { type Log, silentLog } from "@osr/base/log";
import { systemClock } from "@osr/base/platform/system-clock";
import { systemRandomness } from "@osr/base/platform/system-randomness";
import { systemScheduler } from "@osr/base/platform/system-scheduler";
import { type Uuid, randomUuid } from "@osr/base/uuid";

import type { VaultDatabase } from "../database/database.ts";
import { migrate } from "../database/migrate.ts";
import { NodeConnection } from "../database/node-connection.ts";
import { openDatabase } from "../database/open-database.ts";
import { type CrashPoint, noCrashPoint } from "../jobs/crash-point.ts";
import { JobRunner } from "../jobs/job-runner.ts";
import type { Operation } from "../jobs/operation.ts";

const ERRORS = defineErrors({ TEST_FAILED: { retryable: false, hint: "Mend it." } });

/** An operation that uses every way in which a job may do something, each with an effect that can be counted. */
export type TestInput = {
  readonly failsUntilAttempt: number;
  readonly waitsFor: "nobody" | "person" | "cancel";
};

export type TestJobs = AsyncDisposable & {
  readonly database: VaultDatabase;
  readonly runner: JobRunner;
  readonly node: NodeConnection;
  enqueue(input?: Partial<TestInput>): Promise<Uuid>;
  state(jobId: Uuid): Promise<string>;
  /** Waits until the job is in one of these states. */
  until(jobId: Uuid, ...states: string[]): Promise<string>;
};

/** A job engine on the database, as a vault has it, with one operation. */
export async function startTestJobs(
  url: string,
  crashPoint: CrashPoint = noCrashPoint,
  log: Log = silentLog,
): Promise<TestJobs> {
  await using stack = new AsyncDisposableStack();
  const open = stack.use(openDatabase(url, silentLog));
  await migrate(open.pool, systemClock);
  await sql`create table if not exists effect (key text primary key, attempts int not null, lease bigint not null)`.execute(
    open.database,
  );
  await sql`create table if not exists moved (job_id uuid not null)`.execute(open.database);
  const ports = {
    clock: systemClock,
    scheduler: systemScheduler,
    randomness: systemRandomness,
    log,
  };
  const node = new NodeConnection({ ...ports, url, nodeId: randomUuid(systemRandomness) });
  stack.defer(() => node.stop());
  await node.start();
  const { database } = open;
  const runner = new JobRunner({ ...ports, database, node, crashPoint });
  runner.register(testOperation(database));
  stack.defer(() => runner.stop());
  runner.start();
  const state = async (jobId: Uuid): Promise<string> =>
    (
      await database
        .selectFrom("job")
        .select("state")
        .where("id", "=", jobId)
        .executeTakeFirstOrThrow()
    ).state;
  const moved = stack.move();
  return {
    database,
    runner,
    node,
    state,
    enqueue: (input = {}) =>
      database.transaction().execute(async (tx) => enqueue(runner, await vaultId(tx), tx, input)),
    async until(jobId, ...states) {
      for (;;) {
        const now = await state(jobId).catch(() => "away");
        if (states.includes(now)) return now;
        await systemScheduler.sleep(10);
      }
    },
    [Symbol.asyncDispose]: () => moved.disposeAsync(),
  };
}

function enqueue(
  runner: JobRunner,
  vaultId_: Uuid,
  tx: Parameters<JobRunner["enqueue"]>[0],
  input: Partial<TestInput>,
): Promise<Uuid> {
  return runner.enqueue(tx, {
    vaultId: vaultId_,
    kind: "Test",
    friendlyName: "Test",
    input: { failsUntilAttempt: 0, waitsFor: "nobody", ...input },
    target: { id: "t", name: "t", instanceType: "Test" },
    resourcePath: "/t",
    activityId: "test",
    isCancellable: true,
  });
}

function testOperation(database: VaultDatabase): Operation<TestInput> {
  const task = (id: string) => ({ id, name: id, friendlyName: id });
  /** A side effect outside of the vault's transactions, idempotent by its key. */
  const effect = async (key: string, lease: number): Promise<number> => {
    const { rows } = await sql<{ attempts: number }>`
      insert into effect values (${key}, 1, ${lease})
      on conflict (key) do update set attempts = effect.attempts + 1, lease = ${lease} returning attempts`.execute(
      database,
    );
    return rows[0]?.attempts ?? 0;
  };
  return {
    kind: "Test",
    tasks: ["First", "Ask", "Last"].map(task),
    async run(job, input) {
      const { jobId, leaseToken } = job;
      await job.task("First", () => effect(`${jobId}/first`, leaseToken));
      await job.transaction("move", async (tx) => {
        await sql`insert into moved values (${jobId})`.execute(tx);
        return null;
      });
      await job.step("middle", () => effect(`${jobId}/middle`, leaseToken));
      await job.sleep("pause", 20);
      if (input.waitsFor === "person") await job.waitForPerson("Ask", "Look at it.");
      else await job.skip("Ask");
      await job.task("Last", async (signal) => {
        const attempts = await effect(`${jobId}/last`, leaseToken);
        if (input.waitsFor === "cancel") await systemScheduler.sleep(60_000, signal);
        if (attempts < input.failsUntilAttempt) throw new OsrError(ERRORS.TEST_FAILED, "not yet");
        return attempts;
      });
    },
    async ended(tx, jobId) {
      await sql`insert into effect values (${`${jobId}/ended`}, 1, 0)`.execute(tx);
    },
    async restart(tx, jobId) {
      await sql`delete from effect where key = ${`${jobId}/ended`}`.execute(tx);
    },
  };
}

async function vaultId(database: VaultDatabase): Promise<Uuid> {
  const known = await database.selectFrom("vault").select("id").executeTakeFirst();
  if (known !== undefined) return known.id;
  const id = randomUuid(systemRandomness);
  await database
    .insertInto("vault")
    .values({
      id,
      key: "v",
      arm_id: "/v",
      subscription_id: "s",
      resource_group: "g",
      name: "v",
      location: "l",
      sku: "{}",
      tags: "{}",
      properties: "{}",
      etag: "e",
      created_at: 0,
    })
    .execute();
  return id;
}
