import { readFileSync } from "node:fs";
import { join } from "node:path";

import type { Log } from "@osr/base/log";
import { systemClock } from "@osr/base/platform/system-clock";
import { systemRandomness } from "@osr/base/platform/system-randomness";
import { systemScheduler } from "@osr/base/platform/system-scheduler";
import { startEmbeddedPostgres } from "@osr/postgres/embedded-postgres";
import { migrate } from "@osr/vault/database/migrate";
import { type OpenDatabase, openDatabase } from "@osr/vault/database/open-database";
import { Administration } from "@osr/vault/access/administration";

import { pathFrom } from "../site/configuration-file.ts";
import type { VaultConfiguration } from "./vault-configuration.ts";

/** The database of a vault, and its embedded server where it has one. */
export type ConfiguredDatabase = AsyncDisposable & { readonly url: string };

/**
 * Finds or starts the database. `isGuest`: a server that is running already is left running afterwards, since it is the vault's.
 */
export async function configuredDatabase(
  configFile: string,
  config: VaultConfiguration,
  options: { readonly log: Log; readonly isGuest: boolean },
): Promise<ConfiguredDatabase> {
  const given = process.env["DATABASE_URL"];
  if (given !== undefined) return { url: given, [Symbol.asyncDispose]: () => Promise.resolve() };
  if (config.databaseUrlFile !== undefined) {
    const url = readFileSync(pathFrom(configFile, config.databaseUrlFile), "utf8").trim();
    return { url, [Symbol.asyncDispose]: () => Promise.resolve() };
  }
  const postgres = await startEmbeddedPostgres({
    folder: join(pathFrom(configFile, config.directory), "postgres"),
    scheduler: systemScheduler,
    randomness: systemRandomness,
    log: options.log,
  });
  const isLeft = options.isGuest && postgres.isAdopted;
  return {
    url: postgres.url,
    [Symbol.asyncDispose]: () => (isLeft ? postgres.release() : postgres.stop()),
  };
}

/** Works on the database, brought to this version's schema, whether the vault runs or not. */
export async function withDatabase<T>(
  configFile: string,
  config: VaultConfiguration,
  log: Log,
  work: (open: OpenDatabase) => Promise<T>,
): Promise<T> {
  await using database = await configuredDatabase(configFile, config, { log, isGuest: true });
  await using open = openDatabase(database.url, log);
  await migrate(open.pool, systemClock);
  return await work(open);
}

/** Does an administrator's work on the database. */
export function administered<T>(
  configFile: string,
  config: VaultConfiguration,
  log: Log,
  work: (administration: Administration) => Promise<T>,
): Promise<T> {
  const ports = { clock: systemClock, randomness: systemRandomness };
  return withDatabase(configFile, config, log, ({ database }) =>
    work(new Administration(database, ports)),
  );
}
