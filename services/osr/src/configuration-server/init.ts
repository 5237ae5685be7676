import { existsSync } from "node:fs";
import { isAbsolute, join, resolve } from "node:path";

import type { InitOptions } from "@osr/cli/configuration-server-commands";
import type { Output } from "@osr/cli/output";
import { OsrError, defineErrors } from "@osr/base/errors";
import { systemRandomness } from "@osr/base/platform/system-randomness";
import {
  type SiteBackup,
  parseSiteBackup,
  restoreSite,
} from "@osr/configuration-server/site-backup";
import { parseSiteSecret } from "@osr/configuration-server/site-keys";
import { readGivenFile } from "@osr/control-link/secret-file";

import { writeDurably } from "../site/durable-file.ts";
import { openConfiguredSite, reachedAt } from "./open-configured-site.ts";

const ERRORS = defineErrors({
  CONFIGURATION_EXISTS: {
    retryable: false,
    hint: "Use it, or give another --directory. It holds the secret of a site: don't delete it lightly.",
  },
});

/** `osr configuration-server init`: a folder with the site's secret, 0600, and a configuration; from a backup, the same site again. */
export async function initConfigurationServer(options: InitOptions): Promise<Output> {
  const folder = resolve(options.directory);
  const configFile = join(folder, "config.json");
  const secretFile = join(folder, "site.secret");
  for (const path of [configFile, secretFile])
    if (existsSync(path)) throw new OsrError(ERRORS.CONFIGURATION_EXISTS, `${path} exists`);
  const backup =
    options.restore === undefined ? undefined : parseSiteBackup(readGivenFile(options.restore));
  writeDurably(secretFile, `${secretOf(options, backup).toString("hex")}\n`, 0o600);
  const configuration = {
    listen: { host: options.host, ...(options.port === undefined ? {} : { port: options.port }) },
    names: options.name,
    siteSecretFile: "site.secret",
    stateDirectory: "state",
  };
  writeDurably(configFile, `${JSON.stringify(configuration, null, 2)}\n`, 0o600);
  using open = await openConfiguredSite(configFile);
  if (backup !== undefined) restoreSite(open.site.state, backup);
  return {
    config: isAbsolute(options.directory) ? configFile : join(options.directory, "config.json"),
    authorityFingerprint: open.site.fingerprint,
    configurationServer: reachedAt(open.configuration),
    keepCopyOf: secretFile,
  };
}

function secretOf({ siteSecret }: InitOptions, backup: SiteBackup | undefined): Buffer {
  if (backup !== undefined) return Buffer.from(backup.siteSecret, "hex");
  if (siteSecret !== undefined) return parseSiteSecret(readGivenFile(siteSecret));
  return systemRandomness.bytes(32);
}
