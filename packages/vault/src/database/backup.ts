import type { Pool, PoolClient } from "pg";

import type { JsonValue } from "@osr/base/json-value";
import { jsonObject } from "@osr/base/json-value";
import { OsrError } from "@osr/base/errors";

import { VAULT_ERRORS } from "../vault-errors.ts";
import { MIGRATIONS } from "./migrations.ts";

const FORMAT = "osr-vault-backup";
const ROWS_AT_ONCE = 500;
/** Whatever lease was taken after the backup was made, the next one is newer. */
const LEASE_STEP = 1_000_000;

/**
 * The whole database as lines of JSON, at one instant while the vault works: first the format and the schema, then each row with its table. Readable by
 * every major version of PostgreSQL. Holds what the database holds: hashes of tokens, secrets of fabrics.
 */
export async function* backupLines(pool: Pool): AsyncGenerator<string> {
  const client = await pool.connect();
  try {
    await client.query("begin isolation level repeatable read read only");
    yield `${JSON.stringify({ format: FORMAT, schema: MIGRATIONS.length })}\n`;
    for (const table of await tablesOf(client)) {
      await client.query(
        `declare lines no scroll cursor for select to_jsonb(t) as row from ${table} t`,
      );
      for (;;) {
        const { rows } = await client.query<{ row: JsonValue }>(`fetch ${ROWS_AT_ONCE} from lines`);
        for (const { row } of rows) yield `${JSON.stringify({ table, row })}\n`;
        if (rows.length < ROWS_AT_ONCE) break;
      }
      await client.query("close lines");
    }
    await client.query("commit");
  } finally {
    client.release();
  }
}

/**
 * Puts a backup into an empty database of the same schema, all or nothing. Needs the rights of a superuser, since triggers and foreign keys rest
 * meanwhile. Throws BACKUP_INVALID and DATABASE_NOT_EMPTY.
 */
export async function restoreLines(pool: Pool, lines: AsyncIterable<string>): Promise<number> {
  const client = await pool.connect();
  try {
    await client.query("begin");
    await client.query("set local session_replication_role = replica");
    const { rows } = await client.query("select 1 from vault limit 1");
    if (rows.length > 0)
      throw new OsrError(VAULT_ERRORS.DATABASE_NOT_EMPTY, "there are vaults in the database");
    const tables = new Set(await tablesOf(client));
    let count = -1;
    for await (const line of lines) {
      if (count < 0) checkHeader(line);
      else await insertRow(client, tables, line);
      count += 1;
    }
    if (count < 0) throw invalid("it is empty");
    await client.query(`update lease set token = token + ${LEASE_STEP}`);
    for (const table of tables) await advanceIdentities(client, table);
    await client.query("commit");
    return count;
  } catch (error) {
    await client.query("rollback");
    throw error;
  } finally {
    client.release();
  }
}

/** Names come from the catalogue, so they are safe in statements. */
async function tablesOf(client: PoolClient): Promise<string[]> {
  const { rows } = await client.query<{ name: string }>(
    `select quote_ident(table_name) as name from information_schema.tables
     where table_schema = 'public' and table_type = 'BASE TABLE' and table_name <> 'schema_migration'
     order by table_name`,
  );
  return rows.map(({ name }) => name);
}

function checkHeader(line: string): void {
  const header = jsonObject(parsed(line));
  if (header?.["format"] !== FORMAT) throw invalid("it is no backup of a vault");
  if (header["schema"] !== MIGRATIONS.length)
    throw invalid(
      `it is of schema ${JSON.stringify(header["schema"])}, this version has ${MIGRATIONS.length}`,
    );
}

async function insertRow(
  client: PoolClient,
  tables: ReadonlySet<string>,
  line: string,
): Promise<void> {
  const entry = jsonObject(parsed(line));
  const table = entry?.["table"];
  if (typeof table !== "string" || !tables.has(table))
    throw invalid("a line names no table of ours");
  await client.query(
    `insert into ${table} overriding system value select * from jsonb_populate_record(null::${table}, $1)`,
    [JSON.stringify(entry?.["row"] ?? null)],
  );
}

/** Numbers that the database gives go on after the highest that is there. */
async function advanceIdentities(client: PoolClient, table: string): Promise<void> {
  const { rows } = await client.query<{ column: string }>(
    `select quote_ident(column_name) as column from information_schema.columns
     where table_schema = 'public' and quote_ident(table_name) = $1
       and (is_identity = 'YES' or column_default like 'nextval(%')`,
    [table],
  );
  for (const { column } of rows)
    await client.query(
      `select setval(pg_get_serial_sequence($1, $2), greatest((select max(${column}) from ${table}), 1))`,
      [table, column],
    );
}

function parsed(line: string): JsonValue {
  try {
    return JSON.parse(line) as JsonValue;
  } catch {
    throw invalid("a line is not JSON: the file is damaged or was cut off");
  }
}

function invalid(message: string): OsrError {
  return new OsrError(VAULT_ERRORS.BACKUP_INVALID, `the backup cannot be used: ${message}`);
}
