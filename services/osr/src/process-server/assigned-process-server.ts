import { hostname } from "node:os";

import { OsrError, defineErrors } from "@osr/base/errors";
import { systemClock } from "@osr/base/platform/system-clock";
import { systemRandomness } from "@osr/base/platform/system-randomness";
import { systemScheduler } from "@osr/base/platform/system-scheduler";
import { MINUTE_MS } from "@osr/base/units";
import type { GatewayFacts } from "@osr/contracts/replication-facts";
import type { GatewayAssignment } from "@osr/contracts/site-protocol";
import {
  type IdentityStore,
  type RoleIdentity,
  identityFile,
} from "@osr/control-link/role-identity";
import { httpsUrl, serverAddress } from "@osr/control-link/server-address";
import { HttpsClient } from "@osr/https/https-client";
import type { ServerTls } from "@osr/https/https-server";
import { AssignedDisks } from "@osr/process-server/assigned-disks";
import { gatewayFacts, keepGatewayLink } from "@osr/process-server/gateway-link";
import { ProcessServer } from "@osr/process-server/process-server";
import { WorkerEncoder } from "@osr/process-server/worker-encoder";

import { roleLog } from "../role-log.ts";
import { runRole } from "../run-role.ts";
import { pathFrom, readConfiguration } from "../site/configuration-file.ts";
import { assignedProcessServerShape } from "../site/role-configurations.ts";
import { GrantedStore } from "./granted-store.ts";
import { LoadMeter } from "./machine-load.ts";

const VERSION = "0.1.0";
/** A question that waits, a report, and a renewal. */
const SOCKETS_MAX = 3;

const ERRORS = defineErrors({
  NOT_ENROLLED: {
    retryable: false,
    hint: "Run `osr process-server enrol --token FILE --out FILE --address ADDRESS`, with the file that the configuration names as identityFile.",
  },
});

const ports = { clock: systemClock, scheduler: systemScheduler, randomness: systemRandomness };

/**
 * A process server that its configuration server tells what to do. It begins with the first assignment, which brings the
 * vault's id and the storage account; from then on assignments, grants and certificates change while it runs.
 */
export async function runAssignedProcessServer(
  configFile: string,
  signal: AbortSignal,
): Promise<void> {
  const config = readConfiguration(configFile, assignedProcessServerShape);
  const log = roleLog("process-server");
  const kept = identityFile(pathFrom(configFile, config.identityFile));
  const role = new AssignedRole(kept);
  using client = role.client;
  const ended = new AbortController();
  const first = Promise.withResolvers<GatewayAssignment>();
  // Each counts from its own last question.
  const [meter, watched] = [new LoadMeter(), new LoadMeter()];
  const facts = (): GatewayFacts =>
    gatewayFacts(role.server?.status() ?? IDLE, {
      hostName: hostname(),
      version: VERSION,
      address: role.server === undefined ? undefined : config.address,
      certificatePem: role.identity.certificatePem,
      load: meter.load(),
    });
  const link = keepGatewayLink(
    {
      ...ports,
      log,
      client,
      identity: () => role.identity,
      onRenewed: (identity) => role.renewed(identity),
      onAssignment: (assignment) => {
        role.assigned(assignment);
        first.resolve(assignment);
      },
      facts,
    },
    AbortSignal.any([signal, ended.signal]),
  );
  signal.addEventListener("abort", () => first.reject(signal.reason), { once: true });
  try {
    const { vaultId, storage } = await first.promise;
    await using encoder = new WorkerEncoder(log);
    using store = new GrantedStore(config, role.assignment?.storage ?? storage, log);
    role.store = store;
    const server = new ProcessServer(
      {
        vaultId,
        spoolFolder: pathFrom(configFile, config.spoolDirectory),
        ...(config.cacheBytesMax === undefined ? {} : { cacheBytes: config.cacheBytesMax }),
        ...config.listen,
        metricsPort: config.metricsPort,
        tls: role.tls(),
      },
      { ...ports, log, store, encoder, load: () => watched.shares(), authority: role.disks },
    );
    void server.listening.then(() => (role.server = server)).catch(() => undefined);
    await runRole(server, server.listening, signal);
  } finally {
    ended.abort();
    await link;
  }
}

/** Before it listens. */
const IDLE = {
  cache: { usedBytes: 0, freeShare: 1, level: "normal" },
  inFlightBytes: 0,
  machines: [],
  health: [],
} as const;

/** What changes while the process server runs. */
class AssignedRole {
  readonly disks = new AssignedDisks();
  readonly client: HttpsClient;
  readonly #kept: IdentityStore;
  identity: RoleIdentity;
  assignment: GatewayAssignment | undefined;
  store: GrantedStore | undefined;
  server: ProcessServer | undefined;

  constructor(kept: IdentityStore) {
    const identity = kept.read();
    if (identity === undefined)
      throw new OsrError(ERRORS.NOT_ENROLLED, "the process server has no identity");
    this.#kept = kept;
    this.identity = identity;
    this.client = new HttpsClient({
      baseUrl: httpsUrl(serverAddress(identity.configurationServer)),
      authorityPem: identity.authorityPem,
      identity,
      peer: { role: "configuration-server" },
      socketsMax: SOCKETS_MAX,
      timeoutMs: MINUTE_MS,
      scheduler: systemScheduler,
    });
  }

  renewed(identity: RoleIdentity): void {
    this.#kept.write(identity);
    this.identity = identity;
    this.client.replaceIdentity(identity);
    this.server?.replaceCertificate(this.tls());
  }

  /** Keys and credential first, so that whoever is told of them finds them; then those who have to go. */
  assigned(assignment: GatewayAssignment): void {
    const before = this.assignment;
    this.assignment = assignment;
    this.store?.renew(assignment.storage);
    const withdrawn = this.disks.replace(assignment.machines);
    if (before?.revokedPem !== assignment.revokedPem) this.server?.replaceCertificate(this.tls());
    for (const machineId of withdrawn) this.server?.withdraw(machineId);
  }

  tls(): ServerTls & { readonly clientAuthorityPem: string } {
    const { certificatePem, privateKeyPem, authorityPem } = this.identity;
    return {
      certificatePem,
      privateKeyPem,
      clientAuthorityPem: authorityPem,
      revokedPem: this.assignment?.revokedPem,
    };
  }
}
