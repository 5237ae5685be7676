import assert from "node:assert/strict";
import { test } from "node:test";

import { sql } from "kysely";

import { silentLog } from "@osr/base/log";

import { startTestPostgres } from "../testing/test-database.ts";
import { openDatabase } from "./open-database.ts";
import { inTransaction } from "./transaction.ts";

test("of two transactions that wait for each other, both end", async () => {
  await using postgres = await startTestPostgres();
  await using open = openDatabase(await postgres.newDatabase(), silentLog);
  const { database } = open;
  await sql`create table counter (id int primary key, value int not null)`.execute(database);
  await sql`insert into counter values (1, 0), (2, 0)`.execute(database);
  const both = Promise.withResolvers<void>();
  let begun = 0;
  const addTo = (first: number, second: number): Promise<void> =>
    inTransaction(database, async (tx) => {
      await sql`update counter set value = value + 1 where id = ${first}`.execute(tx);
      begun += 1;
      if (begun === 2) both.resolve();
      await both.promise;
      await sql`update counter set value = value + 1 where id = ${second}`.execute(tx);
    });
  await Promise.all([addTo(1, 2), addTo(2, 1)]);
  const { rows } = await sql<{ value: number }>`select value from counter order by id`.execute(
    database,
  );
  assert.deepEqual(
    rows.map(({ value }) => value),
    [2, 2],
  );
  // On a busy machine it may lose more than once.
  assert.ok(begun >= 3, String(begun));
});
