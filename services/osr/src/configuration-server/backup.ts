import { existsSync, readFileSync } from "node:fs";

import type { Output } from "@osr/cli/output";
import { OsrError, defineErrors } from "@osr/base/errors";
import { siteBackup } from "@osr/configuration-server/site-backup";
import { parseSiteSecret } from "@osr/configuration-server/site-keys";

import { pathFrom } from "../site/configuration-file.ts";
import { writeDurably } from "../site/durable-file.ts";
import { openConfiguredSite } from "./open-configured-site.ts";

const ERRORS = defineErrors({
  FILE_EXISTS: { retryable: false, hint: "Give the name of a file that does not exist yet." },
});

/** Writes a secret to a new file, 0600. Throws FILE_EXISTS. */
export function writeNewSecret(path: string, content: string): void {
  if (existsSync(path)) throw new OsrError(ERRORS.FILE_EXISTS, `${path} exists`);
  writeDurably(path, content, 0o600);
}

/** `osr configuration-server backup`. */
export async function backupSite(options: {
  readonly config: string;
  readonly out: string;
}): Promise<Output> {
  using open = await openConfiguredSite(options.config);
  const { site, configuration } = open;
  const secret = readFileSync(pathFrom(options.config, configuration.siteSecretFile), "utf8");
  const backup = siteBackup(site.state, parseSiteSecret(secret));
  writeNewSecret(options.out, `${JSON.stringify(backup, null, 2)}\n`);
  return { file: options.out, fabric: backup.fabric?.name ?? "", accounts: backup.accounts.length };
}
