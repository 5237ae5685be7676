import { setFlagsFromString } from "node:v8";
import { readFileSync } from "node:fs";

import { systemClock } from "@osr/base/platform/system-clock";
import { systemRandomness } from "@osr/base/platform/system-randomness";
import { systemScheduler } from "@osr/base/platform/system-scheduler";
import { HOUR_MS } from "@osr/base/units";
import type { StorageGrant } from "@osr/contracts/site-protocol";
import { Vault } from "@osr/vault/vault";
import type { StorageAccessIssuer } from "@osr/vault/vault-context";

import { ReplicaHostClient } from "../replicas/replica-host-client.ts";
import { openStore } from "../repository/open-store.ts";
import { roleLog } from "../role-log.ts";
import { runRole } from "../run-role.ts";
import { pathFrom, readConfiguration } from "../site/configuration-file.ts";
import { readVaultKey } from "../site/vault-key-file.ts";
import { crashPointsOf } from "./crash-points.ts";
import { type VaultConfiguration, vaultConfigurationShape } from "./vault-configuration.ts";
import { configuredDatabase } from "./vault-database.ts";
import { vaultAuthority, vaultIdentity } from "./vault-identity.ts";

/** Tokens of the embedded storage account have no end of their own; asking again after a third of this picks up a changed one. */
const GRANT_MS = 72 * HOUR_MS;

/**
 * V8 lets garbage pile up where a machine has memory: to four times what is alive, and 48 MiB of what is new. A vault lives beside its database, and has
 * processor time to spare for collecting a little more often.
 */
const HEAP_FLAGS = "--heap-growing-percent=30 --semi-space-growth-factor=1";

/** `osr vault run`. */
export async function runVault(
  options: { readonly config: string },
  signal: AbortSignal,
): Promise<void> {
  setFlagsFromString(HEAP_FLAGS);
  const config = readConfiguration(options.config, vaultConfigurationShape);
  const path = (name: string): string => pathFrom(options.config, name);
  const { authority: storageAuthority, tokenFile } = config.storageAccount;
  const log = roleLog("vault");
  const authority = await vaultAuthority(options.config, config);
  const access = {
    ...config.storageAccount,
    tokenFile: path(tokenFile),
    ...(storageAuthority === undefined ? {} : { authority: path(storageAuthority) }),
  };
  using open = openStore(access, log);
  await using database = await configuredDatabase(options.config, config, { log, isGuest: false });
  const { retryAfterSeconds } = config;
  const crashFolder = process.env["OSR_CRASH_POINTS"];
  if (crashFolder !== undefined) log.warn("this vault dies where a test says so", { crashFolder });
  const vault = new Vault(
    {
      databaseUrl: database.url,
      host: config.listen.host,
      port: config.listen.port,
      identity: () => vaultIdentity(options.config, config, authority),
      ...(crashFolder === undefined
        ? {}
        : { crashPoint: crashPointsOf(crashFolder, () => process.kill(process.pid, "SIGKILL")) }),
      ...(retryAfterSeconds === undefined ? {} : { retryAfterSeconds }),
    },
    {
      clock: systemClock,
      scheduler: systemScheduler,
      randomness: systemRandomness,
      log,
      store: open.store,
      storageAccess: issuer(config, path),
      vaultKey: readVaultKey(path(config.vaultKeyFile)),
      replicas: new ReplicaHostClient(path(config.replicaHostSocket)),
      authority,
    },
  );
  await runRole(vault, vault.listening, signal);
}

function issuer(config: VaultConfiguration, path: (name: string) => string): StorageAccessIssuer {
  const { endpoint, container, authority } = config.storageAccount;
  const grant = (tokenFile: string): Promise<StorageGrant> =>
    Promise.resolve({
      endpoint,
      container,
      token: readFileSync(path(tokenFile), "utf8").trim(),
      ...(authority === undefined ? {} : { authorityPem: readFileSync(path(authority), "utf8") }),
      expiresUnixMs: systemClock.unixMs() + GRANT_MS,
    });
  return {
    ingest: () => grant(config.ingestTokenFile),
    reader: () => grant(config.readerTokenFile),
  };
}
