import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { networkInterfaces } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";

import { must } from "@osr/base/assert";
import { canonicalJson } from "@osr/base/canonical-json";
import { OsrError, defineErrors, hasCode, messageOf, systemErrorCode } from "@osr/base/errors";
import { parseJson } from "@osr/base/json-shape";
import type { Log } from "@osr/base/log";
import { systemClock } from "@osr/base/platform/system-clock";
import { systemRandomness } from "@osr/base/platform/system-randomness";
import { systemScheduler } from "@osr/base/platform/system-scheduler";
import { MINUTE_MS } from "@osr/base/units";
import { readDiskInventory } from "@osr/block-device/disk-inventory";
import { ENROLMENT_ROUTES } from "@osr/contracts/enrolment";
import {
  AGENT_STATUS_MS,
  type AgentSettings,
  type MachineRegistration,
  SITE_ROUTES,
  SITE_WAIT_MS,
  agentSettingsShape,
} from "@osr/contracts/site-protocol";
import { keepRenewed } from "@osr/control-link/certificate-renewal";
import type { IdentityStore, RoleIdentity } from "@osr/control-link/role-identity";
import { writeSecretFile } from "@osr/control-link/secret-file";
import { httpsUrl, serverAddress } from "@osr/control-link/server-address";
import { followWishedState } from "@osr/control-link/wished-state";
import { HttpsClient } from "@osr/https/https-client";
import type { MobilityStatus } from "@osr/mobility-service/mobility-status";
import {
  NamedProcessServer,
  type ProcessServerAssignment,
} from "@osr/mobility-service/process-server-assignment";
import { httpsProcessServer } from "@osr/mobility-service/process-server-client";
import { replicationFacts } from "@osr/mobility-service/replication-facts";

import type { Configuration } from "./configuration.ts";
import { hostAndPort, processServerClient } from "./configured-process-servers.ts";
import { machineFacts } from "./machine-facts.ts";
import { AGENT_VERSION } from "./open-replication.ts";
import type { SettingsSource } from "./settings-source.ts";

/** A question that waits, a report, and a renewal. */
const SOCKETS_MAX = 3;
const DISKS_MAX = 256;

const ERRORS = defineErrors({
  NOT_ENROLLED: {
    retryable: false,
    hint: "Enrol the machine: osr-mobility-service enrol --token FILE.",
  },
});

const { MACHINE_UNREGISTERED } = defineErrors({
  MACHINE_UNREGISTERED: { retryable: false, hint: "The agent registers again by itself." },
});

const ports = { clock: systemClock, scheduler: systemScheduler, randomness: systemRandomness };

/**
 * The agent's link to its configuration server: registers the machine, takes its settings and keeps them for the next start,
 * reports, renews the certificate. Where the configuration server is away, the agent goes on with what it was told last.
 */
export class ConfigurationServerLink implements SettingsSource {
  readonly isPatient = true;
  readonly #kept: IdentityStore;
  readonly #configuration: Configuration;
  readonly #stateFolder: string;
  readonly #log: Log;
  readonly #client: HttpsClient;
  #identity: RoleIdentity;
  #settings: AgentSettings | undefined;
  #processServer: (NamedProcessServer & ProcessServerAssignment) | undefined;
  #processServerClient: HttpsClient | undefined;
  #next = Promise.withResolvers<void>();
  #status: MobilityStatus | undefined;
  #registered = "";

  /** Throws NOT_ENROLLED, IDENTITY_INVALID. */
  constructor(kept: IdentityStore, configuration: Configuration, log: Log) {
    const identity = kept.read();
    if (identity === undefined)
      throw new OsrError(ERRORS.NOT_ENROLLED, "the machine has not been enrolled");
    this.#kept = kept;
    this.#configuration = configuration;
    this.#stateFolder = dirname(must(configuration.enrolmentFile, "enrolment"));
    this.#log = log;
    this.#identity = identity;
    this.#client = new HttpsClient({
      baseUrl: httpsUrl(serverAddress(identity.configurationServer)),
      authorityPem: identity.authorityPem,
      identity,
      peer: { role: "configuration-server" },
      socketsMax: SOCKETS_MAX,
      timeoutMs: MINUTE_MS,
      scheduler: systemScheduler,
    });
    const settings = this.#readSettings();
    if (settings !== undefined) this.#take(settings);
  }

  get identity(): RoleIdentity {
    return this.#identity;
  }

  get current(): AgentSettings | undefined {
    return this.#settings;
  }

  get certificatePem(): string {
    return this.#identity.certificatePem;
  }

  get processServers(): ProcessServerAssignment {
    return must(this.#processServer, "a protected machine has a process server");
  }

  async changed(signal: AbortSignal): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const onAbort = (): void => resolve();
    if (signal.aborted) return;
    signal.addEventListener("abort", onAbort, { once: true });
    await Promise.race([this.#next.promise, promise]);
    signal.removeEventListener("abort", onAbort);
  }

  note(status: MobilityStatus | undefined): void {
    this.#status = status;
  }

  /** Ends with the signal. */
  async run(signal: AbortSignal): Promise<void> {
    using client = this.#client;
    const common = { ...ports, client, log: this.#log };
    await Promise.all([
      followWishedState(
        {
          ...common,
          path: SITE_ROUTES.machineSettings,
          waitMs: SITE_WAIT_MS,
          shape: agentSettingsShape,
          have: () => this.#settings?.revision ?? 0,
          onState: (settings) => this.#told(settings),
        },
        signal,
      ),
      this.#report(signal),
      keepRenewed(
        {
          ...common,
          path: ENROLMENT_ROUTES.renew,
          identity: () => this.#identity,
          onRenewed: (identity) => this.#renewed(identity),
        },
        signal,
      ),
    ]);
    this.#processServerClient?.[Symbol.dispose]();
  }

  async #told(settings: AgentSettings): Promise<void> {
    writeSecretFile(this.#settingsFile, canonicalJson(settings));
    this.#take(settings);
    const { resolve } = this.#next;
    this.#next = Promise.withResolvers<void>();
    resolve();
    if (settings.shutDownOrder !== undefined) await this.#shutDown(settings.shutDownOrder);
  }

  #take(settings: AgentSettings): void {
    const before = this.#settings?.processServer;
    const { processServer } = settings;
    this.#settings = settings;
    if (processServer === undefined) return;
    if (this.#processServer !== undefined && canonicalJson(before) === canonicalJson(processServer))
      return;
    const peer = { role: "process-server", id: processServer.id } as const;
    const client = processServerClient(processServer, this.#identity, peer);
    const named = { address: hostAndPort(processServer), client: httpsProcessServer(client) };
    if (this.#processServer === undefined) this.#processServer = new NamedProcessServer(named);
    else this.#processServer.replace(named);
    // Requests to the one before end with its session, within a second.
    this.#processServerClient?.[Symbol.dispose]();
    this.#processServerClient = client;
    this.#log.info("the process server is named", { address: named.address });
  }

  #renewed(identity: RoleIdentity): void {
    this.#kept.write(identity);
    this.#identity = identity;
    this.#client.replaceIdentity(identity);
    this.#processServerClient?.replaceIdentity(identity);
  }

  async #report(signal: AbortSignal): Promise<void> {
    let isAway = false;
    while (!signal.aborted) {
      try {
        await this.#reportOnce(signal);
        isAway = false;
      } catch (error) {
        if (signal.aborted) return;
        // Another configuration server may not know the machine: it registers at once.
        const wasRegistered = this.#registered !== "";
        this.#registered = "";
        if (wasRegistered && hasCode(error, MACHINE_UNREGISTERED)) continue;
        if (!isAway)
          this.#log.warn("the configuration server does not take reports", {
            error: messageOf(error),
          });
        isAway = true;
      }
      await systemScheduler.sleep(AGENT_STATUS_MS, signal).catch(() => undefined);
    }
  }

  async #reportOnce(signal: AbortSignal): Promise<void> {
    const registration = canonicalJson(await this.#registration());
    const post = (path: string, json: string): Promise<unknown> =>
      this.#client.request({ method: "POST", path, body: Buffer.from(json), signal });
    if (registration !== this.#registered) {
      await post(SITE_ROUTES.machine, registration);
      this.#registered = registration;
    }
    const facts = replicationFacts(this.#status, {
      agentVersion: AGENT_VERSION,
      processServerId: this.#settings?.processServer?.id,
    });
    await post(SITE_ROUTES.machineStatus, JSON.stringify(facts));
  }

  async #registration(): Promise<MachineRegistration> {
    const { disks: selection } = this.#configuration;
    const { disks } = await readDiskInventory({ selection, replicatedDataFolders: [] });
    return {
      agentVersion: AGENT_VERSION,
      machine: machineFacts(),
      addresses: machineAddresses().join(","),
      disks: disks
        .slice(0, DISKS_MAX)
        .map(({ identity, name, sizeBytes, isBoot }) => ({ identity, name, sizeBytes, isBoot })),
    };
  }

  /** Obeys an order once, also when the machine is started again while the order stands. */
  async #shutDown(order: string): Promise<void> {
    const file = join(this.#stateFolder, "shut-down-order");
    if (textOf(file) === order) return;
    writeSecretFile(file, order);
    this.#log.warn("the machine is shut down, as the vault wants it", { order });
    await promisify(execFile)("systemctl", ["poweroff"]);
  }

  get #settingsFile(): string {
    return join(this.#stateFolder, "settings.json");
  }

  #readSettings(): AgentSettings | undefined {
    const json = textOf(this.#settingsFile);
    if (json === undefined) return undefined;
    try {
      return parseJson(json, agentSettingsShape);
    } catch (error) {
      this.#log.warn("the kept settings cannot be read; they are asked for", {
        error: messageOf(error),
      });
      return undefined;
    }
  }
}

/** Addresses under which others may reach this machine. */
export function machineAddresses(): string[] {
  return Object.values(networkInterfaces())
    .flatMap((addresses) => addresses ?? [])
    .filter(({ internal, address }) => !internal && !address.startsWith("fe80:"))
    .map(({ address }) => address)
    .slice(0, 32);
}

function textOf(file: string): string | undefined {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") return undefined;
    throw error;
  }
}
