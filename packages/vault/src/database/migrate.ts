import { createHash } from "node:crypto";

import type { Pool } from "pg";

import type { Clock } from "@osr/base/clock";
import { OsrError } from "@osr/base/errors";

import { VAULT_ERRORS } from "../vault-errors.ts";
import { MIGRATIONS, type Migration } from "./migrations.ts";

/** Any number that nobody else uses: two vaults that start at once migrate one after the other. */
const MIGRATION_LOCK = 0x6f7372;

/**
 * Brings the database to this version's schema, in one transaction. Throws SCHEMA_NEWER where a newer version has been here, and SCHEMA_CHANGED
 * where a migration that ran is not the one we know.
 */
export async function migrate(
  pool: Pool,
  clock: Clock,
  migrations: readonly Migration[] = MIGRATIONS,
): Promise<void> {
  const client = await pool.connect();
  try {
    await client.query("begin");
    await client.query("select pg_advisory_xact_lock($1)", [MIGRATION_LOCK]);
    await client.query(
      `create table if not exists schema_migration (
         number integer primary key, sha256 text not null, ran_at bigint not null)`,
    );
    const { rows } = await client.query<{ number: number; sha256: string }>(
      "select number, sha256 from schema_migration order by number",
    );
    checkHistory(rows, migrations);
    for (const migration of migrations.slice(rows.length)) {
      await client.query(migration.sql);
      await client.query("insert into schema_migration values ($1, $2, $3)", [
        migration.number,
        sha256(migration.sql),
        clock.unixMs(),
      ]);
    }
    await client.query("commit");
  } catch (error) {
    await client.query("rollback");
    throw error;
  } finally {
    client.release();
  }
}

function checkHistory(
  ran: readonly { readonly number: number; readonly sha256: string }[],
  migrations: readonly Migration[],
): void {
  if (ran.length > migrations.length)
    throw new OsrError(
      VAULT_ERRORS.SCHEMA_NEWER,
      `the database is at schema ${ran.length}, this version knows ${migrations.length}`,
    );
  for (const [index, { number, sha256: hash }] of ran.entries()) {
    const known = migrations[index];
    if (known?.number !== number || sha256(known.sql) !== hash)
      throw new OsrError(
        VAULT_ERRORS.SCHEMA_CHANGED,
        `migration ${number} is not the one that ran`,
      );
  }
}

function sha256(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}
