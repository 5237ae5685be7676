import { readFileSync } from "node:fs";

import { keepFreedMemory } from "@osr/base/freed-memory";
import { systemClock } from "@osr/base/platform/system-clock";
import { systemRandomness } from "@osr/base/platform/system-randomness";
import { systemScheduler } from "@osr/base/platform/system-scheduler";
import { MIB } from "@osr/base/units";
import { ProcessServer } from "@osr/process-server/process-server";
import { WorkerEncoder } from "@osr/process-server/worker-encoder";

import { runAssignedProcessServer } from "../process-server/assigned-process-server.ts";
import { LoadMeter } from "../process-server/machine-load.ts";
import { openStore } from "../repository/open-store.ts";
import { roleLog } from "../role-log.ts";
import { runRole } from "../run-role.ts";
import { pathFrom, readConfiguration } from "../site/configuration-file.ts";
import { object, optional, text } from "@osr/base/json-shape";
import { processServerShape } from "../site/role-configurations.ts";
import { readVaultKey } from "../site/vault-key-file.ts";
import { vaultKeyAuthority } from "../site/vault-key-authority.ts";

/** `osr process-server run`: with an identity it is told by its configuration server what to do, else by its configuration. */
export async function processServerRun(
  options: { readonly config: string },
  signal: AbortSignal,
): Promise<void> {
  // Memory of batches and frames: without it, 195,000 page faults in a first copy of 2 GiB.
  keepFreedMemory(60 * MIB);
  if (hasIdentity(options.config)) return runAssignedProcessServer(options.config, signal);
  const config = readConfiguration(options.config, processServerShape);
  const path = (name: string): string => pathFrom(options.config, name);
  const { authority, tokenFile } = config.storageAccount;
  const log = roleLog("process-server");
  using open = openStore(
    {
      ...config.storageAccount,
      tokenFile: path(tokenFile),
      ...(authority === undefined ? {} : { authority: path(authority) }),
    },
    log,
  );
  await using encoder = new WorkerEncoder(log);
  const meter = new LoadMeter();
  const server = new ProcessServer(
    {
      vaultId: config.vaultId,
      spoolFolder: path(config.spoolDirectory),
      ...(config.cacheBytesMax === undefined ? {} : { cacheBytes: config.cacheBytesMax }),
      host: config.listen.host,
      port: config.listen.port,
      metricsPort: config.metricsPort,
      tls: {
        certificatePem: readFileSync(path(config.listen.certificate), "utf8"),
        privateKeyPem: readFileSync(path(config.listen.privateKey), "utf8"),
        clientAuthorityPem: readFileSync(path(config.authority), "utf8"),
      },
    },
    {
      clock: systemClock,
      scheduler: systemScheduler,
      randomness: systemRandomness,
      log,
      store: open.store,
      encoder,
      load: () => meter.shares(),
      authority: vaultKeyAuthority({
        store: open.store,
        vaultId: config.vaultId,
        vaultKey: readVaultKey(path(config.vaultKeyFile)),
        randomness: systemRandomness,
      }),
    },
  );
  await runRole(server, server.listening, signal);
}

function hasIdentity(configFile: string): boolean {
  const shape = object<{ identityFile: string | undefined }>({
    identityFile: optional(text(4096)),
  });
  return readConfiguration(configFile, shape).identityFile !== undefined;
}
