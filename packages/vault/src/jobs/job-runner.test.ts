import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { sql } from "kysely";

import { type Log, silentLog } from "@osr/base/log";
import { systemScheduler } from "@osr/base/platform/system-scheduler";
import type { Uuid } from "@osr/base/uuid";

import type { VaultDatabase } from "../database/database.ts";
import { openDatabase } from "../database/open-database.ts";
import { type TestPostgres, startTestPostgres } from "../testing/test-database.ts";
import { startTestJobs } from "../testing/test-jobs.ts";
import { noCrashPoint } from "./crash-point.ts";

const CRASHING = join(import.meta.dirname, "crashing-vault.contract.ts");
/** Every named point that the test operation passes, in order. */
const POINTS = [
  "job:begun",
  "task:First:begun",
  "task:First:worked",
  "task:First:ended",
  "transaction:move:worked",
  "transaction:move:committed",
  "step:middle:worked",
  "step:middle:ended",
  "person:Ask:suspended",
  "task:Last:worked",
  "task:Last:ended",
  "job:run",
  "job:ended",
];

let postgres: TestPostgres;
before(async () => {
  postgres = await startTestPostgres();
});
after(() => postgres[Symbol.asyncDispose]());

/** Runs the process; gives the signal by which it ended. */
async function vaultProcess(url: string, point: string): Promise<NodeJS.Signals | null> {
  const child = spawn(process.execPath, [CRASHING, url, point], {
    stdio: ["ignore", "ignore", "inherit"],
  });
  const [, signal] = (await once(child, "exit")) as [number | null, NodeJS.Signals | null];
  return signal;
}

async function effects(database: VaultDatabase, jobId: Uuid): Promise<Record<string, number>> {
  const { rows } = await sql<{ key: string; attempts: number }>`
    select key, attempts from effect where key like ${`${jobId}/%`}`.execute(database);
  return Object.fromEntries(rows.map(({ key, attempts }) => [key.split("/")[1], attempts]));
}

async function moves(database: VaultDatabase, jobId: Uuid): Promise<number> {
  const { rows } = await sql`select 1 from moved where job_id = ${jobId}`.execute(database);
  return rows.length;
}

for (const point of POINTS)
  test(`killed at ${point}, the job is ended once by the next process`, async () => {
    const url = await postgres.newDatabase();
    let jobId: Uuid;
    {
      // Enqueued by a process that never gets to run it.
      await using first = await startTestJobs(url, () => {
        throw new Error("this one does not run jobs");
      });
      await first.runner.stop();
      jobId = await first.enqueue({ waitsFor: "person" });
    }
    assert.equal(await vaultProcess(url, point), "SIGKILL");
    assert.equal(await vaultProcess(url, "none"), null);
    await using open = openDatabase(url, silentLog);
    const { database } = open;
    const job = await database.selectFrom("job").selectAll().executeTakeFirstOrThrow();
    assert.deepEqual([job.state, job.permille], ["Succeeded", 1000]);
    assert.equal(await moves(database, jobId), 1);
    const seen = await effects(database, jobId);
    // Only what was done and not yet remembered is done again, under the same key.
    const isRepeated = (name: string): number =>
      point === `task:${name}:worked` || point === `step:${name}:worked` ? 2 : 1;
    assert.deepEqual(seen, {
      first: isRepeated("First"),
      middle: isRepeated("middle"),
      last: isRepeated("Last"),
    });
    const tasks = await database
      .selectFrom("job_task")
      .select("state")
      .orderBy("ordinal")
      .execute();
    assert.deepEqual(
      tasks.map(({ state }) => state),
      ["Succeeded", "Succeeded", "Succeeded"],
    );
    const { token } = await database.selectFrom("lease").select("token").executeTakeFirstOrThrow();
    assert.equal(token, 3);
  });

test("a killed PostgreSQL is only a pause for a running job", async () => {
  const url = await postgres.newDatabase();
  await using jobs = await startTestJobs(url);
  const jobId = await jobs.enqueue({ waitsFor: "person" });
  await jobs.until(jobId, "Suspended");
  const { pid } = postgres.server;
  process.kill(pid, "SIGKILL");
  const answer = async (): Promise<void> => {
    for (;;) {
      try {
        return await jobs.database
          .transaction()
          .execute((tx) => jobs.runner.resume(tx, jobId, "go on"));
      } catch {
        await systemScheduler.sleep(50);
      }
    }
  };
  await answer();
  assert.equal(await jobs.until(jobId, "Succeeded", "Failed"), "Succeeded");
  assert.notEqual(postgres.server.pid, pid);
  assert.equal(await moves(jobs.database, jobId), 1);
  assert.deepEqual(await effects(jobs.database, jobId), { first: 1, middle: 1, last: 1 });
});

test("a failed job says why, sets its domain free once, and restarts at the task that failed", async () => {
  await using jobs = await startTestJobs(await postgres.newDatabase());
  const jobId = await jobs.enqueue({ failsUntilAttempt: 2 });
  assert.equal(await jobs.until(jobId, "Succeeded", "Failed"), "Failed");
  const errors = await jobs.database
    .selectFrom("job_error")
    .select(["task_id", "code", "recommended_action"])
    .execute();
  assert.deepEqual(errors, [
    { task_id: "Last", code: "TEST_FAILED", recommended_action: "Mend it." },
  ]);
  assert.equal((await effects(jobs.database, jobId))["ended"], 1);
  await jobs.database.transaction().execute((tx) => jobs.runner.restart(tx, jobId));
  assert.equal(await jobs.until(jobId, "Succeeded", "Failed"), "Succeeded");
  assert.deepEqual(await effects(jobs.database, jobId), { first: 1, middle: 1, last: 2 });
  await assert.rejects(
    jobs.database.transaction().execute((tx) => jobs.runner.restart(tx, jobId)),
    { code: "JOB_STATE" },
  );
});

test("a cancelled job stops at once, and one that waits for nobody cannot be answered", async () => {
  await using jobs = await startTestJobs(await postgres.newDatabase());
  const jobId = await jobs.enqueue({ waitsFor: "cancel" });
  while ((await effects(jobs.database, jobId))["last"] === undefined);
  await assert.rejects(
    jobs.database.transaction().execute((tx) => jobs.runner.resume(tx, jobId, "")),
    { code: "JOB_STATE" },
  );
  await jobs.database.transaction().execute((tx) => jobs.runner.cancel(tx, jobId));
  assert.equal(await jobs.until(jobId, "Cancelled", "Succeeded", "Failed"), "Cancelled");
  assert.equal((await effects(jobs.database, jobId))["ended"], 1);
});

test("a node whose lease was taken commits nothing more", async () => {
  const seen = { hasStopped: false };
  const error = (): void => {
    seen.hasStopped = true;
  };
  const log: Log = { ...silentLog, error, child: () => log };
  await using jobs = await startTestJobs(await postgres.newDatabase(), noCrashPoint, log);
  const jobId = await jobs.enqueue({ waitsFor: "person" });
  await jobs.until(jobId, "Suspended");
  await sql`update lease set token = token + 1`.execute(jobs.database);
  await jobs.database.transaction().execute((tx) => jobs.runner.resume(tx, jobId, "go on"));
  while (!seen.hasStopped && (await jobs.state(jobId)) !== "Succeeded")
    await systemScheduler.sleep(10);
  assert.equal(await jobs.state(jobId), "InProgress");
  assert.equal((await effects(jobs.database, jobId))["last"], undefined);
});
