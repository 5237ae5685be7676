import { readFileSync } from "node:fs";

import { systemRandomness } from "@osr/base/platform/system-randomness";
import { systemScheduler } from "@osr/base/platform/system-scheduler";
import { createStorageAccount } from "@osr/storage-account/storage-account";

import { roleLog } from "../role-log.ts";
import { runRole } from "../run-role.ts";
import { pathFrom, readConfiguration } from "../site/configuration-file.ts";
import { storageAccountShape } from "../site/role-configurations.ts";

/** `osr storage-account run`. */
export async function storageAccountRun(
  options: { readonly config: string },
  signal: AbortSignal,
): Promise<void> {
  const config = readConfiguration(options.config, storageAccountShape);
  const path = (name: string): string => pathFrom(options.config, name);
  const account = await createStorageAccount({
    directory: path(config.directory),
    host: config.listen.host,
    port: config.listen.port,
    tls: {
      certificatePem: readFileSync(path(config.listen.certificate), "utf8"),
      privateKeyPem: readFileSync(path(config.listen.privateKey), "utf8"),
    },
    tokensFile: path(config.tokensFile),
    log: roleLog("storage-account"),
    scheduler: systemScheduler,
    randomness: systemRandomness,
  });
  await runRole(account, Promise.resolve({ port: account.port }), signal);
}
