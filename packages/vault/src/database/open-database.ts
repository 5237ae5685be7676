import { Kysely, PostgresDialect } from "kysely";
import { Pool, types } from "pg";

import type { Log } from "@osr/base/log";
import { SECOND_MS } from "@osr/base/units";

import type { VaultDatabase, VaultTables } from "./database.ts";

const CONNECTIONS_MAX = 20;
const CONNECT_MS_MAX = 10 * SECOND_MS;
const STATEMENT_MS_MAX = 30 * SECOND_MS;
/** A transaction that does nothing for this long holds others up. */
const IDLE_IN_TRANSACTION_MS_MAX = 60 * SECOND_MS;
const INT8 = 20;

export type OpenDatabase = AsyncDisposable & {
  readonly database: VaultDatabase;
  /** The same connections, for what is not written with kysely. */
  readonly pool: Pool;
};

/** Opens the pool. Nothing is connected yet. */
export function openDatabase(url: string, log: Log): OpenDatabase {
  const pool = new Pool({
    connectionString: url,
    max: CONNECTIONS_MAX,
    connectionTimeoutMillis: CONNECT_MS_MAX,
    statement_timeout: STATEMENT_MS_MAX,
    idle_in_transaction_session_timeout: IDLE_IN_TRANSACTION_MS_MAX,
    application_name: "osr-vault",
    // bigint columns hold times and counters, all below 2^53.
    types: {
      getTypeParser: (id: number, format?: "text" | "binary") =>
        id === INT8 ? Number : types.getTypeParser(id, format),
    },
  });
  // An idle connection that breaks is replaced at its next use.
  pool.on("error", (error) => log.warn("a database connection broke", { error }));
  // One in use tells whoever uses it by its query; between two queries of a transaction, nobody would listen.
  pool.on("connect", (client) => {
    client.on("error", (error) => log.debug("a database connection broke in use", { error }));
  });
  const database = new Kysely<VaultTables>({ dialect: new PostgresDialect({ pool }) });
  return { database, pool, [Symbol.asyncDispose]: () => database.destroy() };
}
