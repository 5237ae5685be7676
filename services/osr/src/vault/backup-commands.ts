import { createReadStream, createWriteStream } from "node:fs";
import { open, rename } from "node:fs/promises";
import { createInterface } from "node:readline";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGunzip, createGzip } from "node:zlib";

import type { Output } from "@osr/cli/output";
import type { BackupOptions, RestoreOptions } from "@osr/cli/vault-role-commands";
import { silentLog } from "@osr/base/log";
import { backupLines, restoreLines } from "@osr/vault/database/backup";

import { readConfiguration } from "../site/configuration-file.ts";
import { vaultConfigurationShape } from "./vault-configuration.ts";
import { withDatabase } from "./vault-database.ts";

/** `osr vault backup`: while the vault works, or while it does not. */
export async function backupVault(options: BackupOptions): Promise<Output> {
  const config = readConfiguration(options.config, vaultConfigurationShape);
  const temporary = `${options.out}.partial`;
  await withDatabase(options.config, config, silentLog, async ({ pool }) => {
    const file = createWriteStream(temporary, { mode: 0o600 });
    await pipeline(Readable.from(backupLines(pool)), createGzip(), file);
  });
  const file = await open(temporary, "r");
  await file.sync();
  await file.close();
  await rename(temporary, options.out);
  return { file: options.out };
}

/** `osr vault restore`: into a database without vaults. */
export async function restoreVault(options: RestoreOptions): Promise<Output> {
  const config = readConfiguration(options.config, vaultConfigurationShape);
  const rows = await withDatabase(options.config, config, silentLog, ({ pool }) =>
    restoreLines(pool, linesOf(options.from)),
  );
  return { restored: options.from, rows };
}

/** Opens the file when the first line is asked for: a reader of lines loses those that come before anybody listens. */
async function* linesOf(file: string): AsyncGenerator<string> {
  const input = createReadStream(file).compose(createGunzip());
  yield* createInterface({ input, crlfDelay: Infinity });
}
