import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { Client } from "pg";

import { silentLog } from "@osr/base/log";
import { systemRandomness } from "@osr/base/platform/system-randomness";
import { systemScheduler } from "@osr/base/platform/system-scheduler";
import { type EmbeddedPostgres, startEmbeddedPostgres } from "@osr/postgres/embedded-postgres";

/** A PostgreSQL for one test file, with as many empty databases as its tests ask for. */
export type TestPostgres = AsyncDisposable & {
  readonly server: EmbeddedPostgres;
  /** Address of a new empty database. */
  newDatabase(): Promise<string>;
};

export async function startTestPostgres(): Promise<TestPostgres> {
  const root = mkdtempSync(join(tmpdir(), "osr-vault-test-"));
  chmodSync(root, 0o711);
  const server = await startEmbeddedPostgres({
    folder: join(root, "postgres"),
    scheduler: systemScheduler,
    randomness: systemRandomness,
    log: silentLog,
  });
  let made = 0;
  return {
    server,
    async newDatabase() {
      made += 1;
      const name = `test${made}`;
      const client = new Client({ connectionString: server.url });
      await client.connect();
      await client.query(`create database ${name}`);
      await client.end();
      return server.url.replace("/postgres?", `/${name}?`);
    },
    async [Symbol.asyncDispose]() {
      await server.stop();
      rmSync(root, { recursive: true, force: true });
    },
  };
}
