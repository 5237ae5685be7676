import { chmodSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";

import { OsrError } from "@osr/base/errors";
import { SECOND_MS } from "@osr/base/units";

import { CONFIGURATION_SERVER_ERRORS } from "./configuration-server-errors.ts";

/** The commands of `osr configuration-server` write beside the role; writes take milliseconds. */
const BUSY_MS = 5 * SECOND_MS;
const SCHEMA_VERSION = 2;

/** Columns named `sealed` are encrypted under the site secret; the others are no secrets. */
const SCHEMA = `
CREATE TABLE kept (name TEXT PRIMARY KEY, sealed BLOB NOT NULL) STRICT;
CREATE TABLE token (
  id TEXT PRIMARY KEY, role TEXT NOT NULL, sealed BLOB NOT NULL, bound_id TEXT, expires_unix_ms INTEGER NOT NULL,
  used_by TEXT, used_request TEXT) STRICT;
CREATE TABLE member (
  id TEXT PRIMARY KEY, role TEXT NOT NULL, host_name TEXT NOT NULL, enrolled_unix_ms INTEGER NOT NULL,
  revoked_unix_ms INTEGER) STRICT;
CREATE TABLE certificate (
  serial TEXT PRIMARY KEY, member_id TEXT NOT NULL, expires_unix_ms INTEGER NOT NULL) STRICT;
CREATE TABLE machine (id TEXT PRIMARY KEY, record TEXT NOT NULL) STRICT;
CREATE TABLE gateway (id TEXT PRIMARY KEY, record TEXT NOT NULL) STRICT;
CREATE TABLE assignment (machine_id TEXT PRIMARY KEY, process_server_id TEXT NOT NULL) STRICT;
CREATE TABLE account (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, sealed BLOB NOT NULL) STRICT;
CREATE TABLE order_result (order_id TEXT PRIMARY KEY, result TEXT NOT NULL) STRICT;
`;

/** What each version adds to the one before it, from 2 on. */
const STEPS = ["ALTER TABLE certificate ADD COLUMN revoked_unix_ms INTEGER;"];

/** Opens the local state, and makes it where it is missing. Durable with every commit. Throws STATE_TOO_NEW. */
export function openStateDatabase(folder: string): DatabaseSync {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const path = join(folder, "state.sqlite");
  const database = new DatabaseSync(path, { timeout: BUSY_MS });
  try {
    chmodSync(path, 0o600);
    database.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;");
    migrate(database);
    return database;
  } catch (error) {
    database.close();
    throw error;
  }
}

function migrate(database: DatabaseSync): void {
  database.exec("BEGIN IMMEDIATE");
  const row = database.prepare("PRAGMA user_version").get();
  const version = Number(row?.["user_version"] ?? 0);
  if (version === 0) database.exec(SCHEMA);
  if (version < SCHEMA_VERSION) {
    for (const step of STEPS.slice(Math.max(0, version - 1))) database.exec(step);
    database.exec(`PRAGMA user_version = ${SCHEMA_VERSION};`);
  }
  database.exec("COMMIT");
  if (version > SCHEMA_VERSION)
    throw new OsrError(
      CONFIGURATION_SERVER_ERRORS.STATE_TOO_NEW,
      `the state has version ${version}, and this is ${SCHEMA_VERSION}`,
    );
}
