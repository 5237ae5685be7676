import { openStore } from "../repository/open-store.ts";
import { openReplicas } from "../replicas/open-replicas.ts";
import { replicaHostConfigurationShape } from "../replicas/replica-host-configuration.ts";
import { ReplicaHostServer, demandFreeSocket } from "../replicas/replica-host-server.ts";
import { roleLog } from "../role-log.ts";
import { runRole } from "../run-role.ts";
import { pathFrom, readConfiguration } from "../site/configuration-file.ts";
import { readVaultKey } from "../site/vault-key-file.ts";

/** `osr replica-host run`: machines that ran before are taken over first. */
export async function replicaHostRun(
  options: { readonly config: string },
  signal: AbortSignal,
): Promise<void> {
  const config = readConfiguration(options.config, replicaHostConfigurationShape);
  const path = (name: string): string => pathFrom(options.config, name);
  const { authority, tokenFile } = config.storageAccount;
  const log = roleLog("replica-host");
  using open = openStore(
    {
      ...config.storageAccount,
      tokenFile: path(tokenFile),
      ...(authority === undefined ? {} : { authority: path(authority) }),
    },
    log,
  );
  const socketPath = path(config.socket);
  await demandFreeSocket(socketPath);
  const vaultKey = readVaultKey(path(config.vaultKeyFile));
  const directory = path(config.directory);
  await using host = await openReplicas({ directory, store: open.store, vaultKey, log }, signal);
  const server = new ReplicaHostServer(host, { socketPath, log });
  await runRole(server, server.listening, signal);
}
