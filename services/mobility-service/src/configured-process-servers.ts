import { systemClock } from "@osr/base/platform/system-clock";
import { systemScheduler } from "@osr/base/platform/system-scheduler";
import { MINUTE_MS } from "@osr/base/units";
import type { Uuid } from "@osr/base/uuid";
import { httpsUrl } from "@osr/control-link/server-address";
import { HttpsClient, type HttpsClientOptions } from "@osr/https/https-client";
import { ConfiguredProcessServers } from "@osr/mobility-service/process-server-assignment";
import { httpsProcessServer } from "@osr/mobility-service/process-server-client";
import { REPLICATION_LIMITS } from "@osr/mobility-service/replication-limits";

import { type Configuration, type ProcessServerAddress, configuredFiles } from "./configuration.ts";
import { machineIdOf } from "./machine-binding.ts";
import { type SettingsSource, fileSettings } from "./settings-source.ts";

const REQUEST_TIMEOUT_MS = MINUTE_MS;

export type AgentCredentials = {
  readonly authorityPem: string;
  readonly certificatePem: string;
  readonly privateKeyPem: string;
};

/** The settings of an agent that has no configuration server: all of them are in its configuration file. */
export function configuredProcessServers(
  configuration: Configuration,
  open: AsyncDisposableStack,
): { readonly machineId: Uuid; readonly processServer: string; readonly source: SettingsSource } {
  const credentials = configuredFiles(configuration);
  const servers = configuration.processServers.map((server) => ({
    address: hostAndPort(server),
    client: httpsProcessServer(open.use(processServerClient(server, credentials))),
  }));
  return {
    machineId: machineIdOf(credentials.certificatePem),
    processServer: servers[0]?.address ?? "",
    source: fileSettings(
      configuration,
      new ConfiguredProcessServers(servers, systemClock),
      credentials.certificatePem,
    ),
  };
}

export function hostAndPort(server: ProcessServerAddress): string {
  return httpsUrl(server).slice("https://".length);
}

export function processServerClient(
  server: ProcessServerAddress,
  { authorityPem, certificatePem, privateKeyPem }: AgentCredentials,
  peer?: HttpsClientOptions["peer"],
): HttpsClient {
  return new HttpsClient({
    baseUrl: httpsUrl(server),
    authorityPem,
    identity: { certificatePem, privateKeyPem },
    ...(peer === undefined ? {} : { peer }),
    // The batches, a heartbeat, the opening of a session and a comparison.
    socketsMax: REPLICATION_LIMITS.batchesHeldMax + 3,
    timeoutMs: REQUEST_TIMEOUT_MS,
    scheduler: systemScheduler,
  });
}
