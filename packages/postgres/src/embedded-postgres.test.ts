import assert from "node:assert/strict";
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";

import { Client } from "pg";

import { OsrError } from "@osr/base/errors";
import { silentLog } from "@osr/base/log";
import { systemRandomness } from "@osr/base/platform/system-randomness";
import { systemScheduler } from "@osr/base/platform/system-scheduler";

import {
  type EmbeddedPostgres,
  deleteEmbeddedPostgres,
  startEmbeddedPostgres,
} from "./embedded-postgres.ts";
import { isRunning } from "./postmaster.ts";

const options = { scheduler: systemScheduler, randomness: systemRandomness, log: silentLog };

/** A folder that PostgreSQL's user may pass through. */
function temporaryFolder(): { folder: string } & Disposable {
  const root = mkdtempSync(join(tmpdir(), "osr-postgres-test-"));
  chmodSync(root, 0o711);
  return {
    folder: join(root, "postgres"),
    [Symbol.dispose]: () => rmSync(root, { recursive: true, force: true }),
  };
}

async function query(postgres: EmbeddedPostgres, text: string): Promise<unknown[]> {
  const client = new Client({ connectionString: postgres.url });
  await client.connect();
  try {
    return (await client.query<Record<string, unknown>>(text)).rows;
  } finally {
    await client.end();
  }
}

/** Rows of the first query that another postmaster than `pid` answers. */
async function queryAfter(postgres: EmbeddedPostgres, pid: number, text: string): Promise<unknown> {
  for (;;) {
    try {
      const rows = await query(postgres, text);
      if (postgres.pid !== pid) return rows;
    } catch {
      await systemScheduler.sleep(20);
    }
  }
}

for (const origin of ["distribution", "npm"] as const) {
  test(`a server of ${origin} keeps what was committed when its postmaster is killed`, async (t) => {
    using place = temporaryFolder();
    let postgres: EmbeddedPostgres;
    try {
      postgres = await startEmbeddedPostgres({ ...options, ...place, origins: [origin] });
    } catch (error) {
      return skipped(t, error);
    }
    await using running = postgres;
    assert.equal(running.origin, origin);
    await query(running, "create table kept as select 7 as value");
    const { pid } = running;
    process.kill(pid, "SIGKILL");
    assert.deepEqual(await queryAfter(running, pid, "select value from kept"), [{ value: 7 }]);
  });
}

/** Only the lack of a server is a reason to skip. */
function skipped(t: TestContext, error: unknown): void {
  if (!(error instanceof OsrError && error.code === "POSTGRES_NOT_FOUND")) throw error;
  t.skip(error.message);
}

test("a server that was left behind is taken over, and stopped with everything it made", async () => {
  using place = temporaryFolder();
  const left = await startEmbeddedPostgres({ ...options, ...place });
  await query(left, "create table kept as select 7 as value");
  await left.release();
  const taken = await startEmbeddedPostgres({ ...options, ...place });
  assert.deepEqual([taken.isAdopted, taken.pid], [true, left.pid]);
  assert.deepEqual(await query(taken, "select value from kept"), [{ value: 7 }]);
  const { pid } = taken;
  await taken.stop();
  assert.equal(isRunning(pid), false);
});

test("a server that is killed leaves nothing in the machine's memory: what it shares lies in its folder", async () => {
  using place = temporaryFolder();
  const postgres = await startEmbeddedPostgres({ ...options, ...place });
  try {
    const maps = readFileSync(`/proc/${postgres.pid}/maps`, "utf8");
    assert.match(maps, /pg_dynshmem/);
    assert.doesNotMatch(maps, /\/dev\/shm/);
  } finally {
    await postgres.stop();
  }
});

test("below a folder that its user may not enter, the data goes where it may", async (t) => {
  if (process.getuid?.() !== 0) return t.skip("not root: PostgreSQL runs as the same user");
  using place = temporaryFolder();
  chmodSync(join(place.folder, ".."), 0o700);
  const postgres = await startEmbeddedPostgres({ ...options, ...place });
  try {
    assert.match(postgres.dataFolder, /^\/var\/lib\/open-site-recovery\/postgres-/);
    assert.deepEqual(await query(postgres, "select 1 as one"), [{ one: 1 }]);
    await postgres.release();
  } finally {
    await deleteEmbeddedPostgres({ ...options, ...place });
  }
  assert.equal(isRunning(postgres.pid), false);
  assert.equal(existsSync(join(postgres.dataFolder, "..")), false);
  assert.equal(existsSync(place.folder), false);
});

test("nobody gets in by network, by the socket's folder, or without the password", async () => {
  using place = temporaryFolder();
  await using postgres = await startEmbeddedPostgres({ ...options, ...place });
  const url = new URL(postgres.url.replace("@/", "@local/"));
  const sockets = url.searchParams.get("host") ?? "";
  assert.equal(statSync(sockets).mode & 0o077, 0);
  assert.deepEqual(await query(postgres, "show listen_addresses"), [{ listen_addresses: "" }]);
  const wrong = new Client({ host: sockets, user: "osr", password: "x", database: "postgres" });
  await assert.rejects(wrong.connect(), { code: "28P01" });
});

test("data of another major version is refused before anything is written", async () => {
  using place = temporaryFolder();
  const first = await startEmbeddedPostgres({ ...options, ...place });
  await first.stop();
  writeFileSync(join(first.dataFolder, "PG_VERSION"), "9\n");
  await assert.rejects(startEmbeddedPostgres({ ...options, ...place }), {
    code: "POSTGRES_VERSION",
  });
});
