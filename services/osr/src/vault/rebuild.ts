import type { Output } from "@osr/cli/output";
import type { RebuildOptions } from "@osr/cli/vault-role-commands";
import { systemClock } from "@osr/base/platform/system-clock";
import { systemRandomness } from "@osr/base/platform/system-randomness";
import { migrate } from "@osr/vault/database/migrate";
import { openDatabase } from "@osr/vault/database/open-database";
import { rebuildVault } from "@osr/vault/sealing/rebuild";

import { openStore } from "../repository/open-store.ts";
import { roleLog } from "../role-log.ts";
import { pathFrom, readConfiguration } from "../site/configuration-file.ts";
import type { StorageAccess } from "../site/role-configurations.ts";
import { readVaultKey } from "../site/vault-key-file.ts";
import { type VaultConfiguration, vaultConfigurationShape } from "./vault-configuration.ts";
import { configuredDatabase } from "./vault-database.ts";
import { writeVaultAuthority } from "./vault-identity.ts";

/** `osr vault rebuild`. */
export async function rebuild(options: RebuildOptions, signal: AbortSignal): Promise<Output> {
  const config = readConfiguration(options.config, vaultConfigurationShape);
  const log = roleLog("vault");
  using account = openStore(storageOf(options, config), log);
  const key = options.key ?? pathFrom(options.config, config.vaultKeyFile);
  await using database = await configuredDatabase(options.config, config, { log, isGuest: true });
  await using open = openDatabase(database.url, log);
  await migrate(open.pool, systemClock);
  const { vaults, authority } = await rebuildVault(
    {
      database: open.database,
      store: account.store,
      vaultKey: readVaultKey(key),
      clock: systemClock,
      randomness: systemRandomness,
      log,
    },
    signal,
  );
  writeVaultAuthority(options.config, config, authority);
  return vaults.map(({ armId, epoch, rows }) => ({ id: armId, epoch, ...rows }));
}

function storageOf(options: RebuildOptions, config: VaultConfiguration): StorageAccess {
  const { storageAccount: account } = config;
  const path = (name: string): string => pathFrom(options.config, name);
  const authority =
    options.authority ?? (account.authority === undefined ? undefined : path(account.authority));
  return {
    ...account,
    endpoint: options.storage ?? account.endpoint,
    container: options.container ?? account.container,
    tokenFile: options.tokenFile ?? path(account.tokenFile),
    ...(authority === undefined ? {} : { authority }),
  };
}
