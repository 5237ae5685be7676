import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { silentLog } from "@osr/base/log";
import { systemClock } from "@osr/base/platform/system-clock";

import { type TestPostgres, startTestPostgres } from "../testing/test-database.ts";
import { createVault, register, testMachine } from "../testing/test-fabric.ts";
import { VAULT_PATH, VERSION, startTestVault } from "../testing/test-vault.ts";
import { backupLines, restoreLines } from "./backup.ts";
import { forgetHistory } from "./history-retention.ts";
import { migrate } from "./migrate.ts";
import { openDatabase } from "./open-database.ts";
import { MIGRATIONS } from "./migrations.ts";

let postgres: TestPostgres;
before(async () => {
  postgres = await startTestPostgres();
});
after(() => postgres[Symbol.asyncDispose]());

async function collected(lines: AsyncIterable<string>): Promise<string[]> {
  const all = [];
  for await (const line of lines) all.push(line);
  return all;
}

async function* each(lines: readonly string[]): AsyncGenerator<string> {
  for (const line of lines) yield await Promise.resolve(line);
}

test("a backup that is restored into an empty database is the same vault, with its tokens and fabrics", async () => {
  let lines: string[];
  let token: string;
  {
    await using vault = await startTestVault(await postgres.newDatabase());
    await createVault(vault);
    const fabric = await register(vault);
    await fabric.report({ machines: [testMachine(fabric.fabricId)] });
    ({ token } = vault);
    lines = await collected(backupLines(vault.open.pool));
  }
  const url = await postgres.newDatabase();
  {
    await using open = openDatabase(url, silentLog);
    await migrate(open.pool, systemClock);
    await assert.rejects(restoreLines(open.pool, each(lines.slice(1))), { code: "BACKUP_INVALID" });
    await assert.rejects(restoreLines(open.pool, each([...lines, "{"])), {
      code: "BACKUP_INVALID",
    });
    assert.equal(await restoreLines(open.pool, each(lines)), lines.length - 1);
    await assert.rejects(restoreLines(open.pool, each(lines)), { code: "DATABASE_NOT_EMPTY" });
  }
  await using vault = await startTestVault(url);
  const { body } = await vault.request(
    "GET",
    `${VAULT_PATH}/replicationFabrics/fabric?${VERSION}`,
    { token },
  );
  assert.equal(body.properties.friendlyName, "fabric");
  // Numbers of the database go on: a second vault gets another one.
  const other = await vault.request("PUT", `${VAULT_PATH}2?${VERSION}`, {
    body: { location: "x" },
  });
  assert.equal(other.status, 201);
  const { token: lease } = await vault.open.database
    .selectFrom("lease")
    .select("token")
    .executeTakeFirstOrThrow();
  assert.ok(lease > 1_000_000);
});

test("a database that was migrated otherwise, or further, is refused", async () => {
  await using open = openDatabase(await postgres.newDatabase(), silentLog);
  await migrate(open.pool, systemClock);
  await migrate(open.pool, systemClock);
  const changed = MIGRATIONS.map((one) =>
    one.number === 2 ? { ...one, sql: `${one.sql} ` } : one,
  );
  await assert.rejects(migrate(open.pool, systemClock, changed), { code: "SCHEMA_CHANGED" });
  await assert.rejects(migrate(open.pool, systemClock, MIGRATIONS.slice(0, 3)), {
    code: "SCHEMA_NEWER",
  });
});

test("old history is forgotten, what is open is not", async () => {
  await using vault = await startTestVault(await postgres.newDatabase());
  await createVault(vault);
  await register(vault);
  const { database } = vault.open;
  const path = `${VAULT_PATH}/replicationFabrics/fabric/checkConsistency?${VERSION}`;
  await vault.request("POST", path);
  await vault.request("PUT", `${VAULT_PATH}/replicationPolicies/p?${VERSION}`, {
    body: { properties: { providerSpecificInput: { instanceType: "InMage" } } },
  });
  const kinds = async (): Promise<string[]> =>
    (await database.selectFrom("job").select("kind").orderBy("kind").execute()).map(
      ({ kind }) => kind,
    );
  await forgetHistory(database, systemClock.unixMs());
  assert.deepEqual(await kinds(), ["AddProtectionProfile", "FabricConsistencyCheck"]);
  await forgetHistory(database, systemClock.unixMs() + 100 * 24 * 3600_000);
  assert.deepEqual(await kinds(), ["FabricConsistencyCheck"]);
});
