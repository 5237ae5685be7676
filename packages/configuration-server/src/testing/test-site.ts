import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import type { Clock } from "@osr/base/clock";
import { silentLog } from "@osr/base/log";
import { systemClock } from "@osr/base/platform/system-clock";
import { systemRandomness } from "@osr/base/platform/system-randomness";
import { systemScheduler } from "@osr/base/platform/system-scheduler";
import { HOUR_MS, SECOND_MS } from "@osr/base/units";
import { type Uuid, randomUuid } from "@osr/base/uuid";
import type { EnrolledRole } from "@osr/contracts/enrolment";
import type { DesiredItem } from "@osr/contracts/fabric-protocol";
import type { GatewayFacts, MachineReplicationFacts } from "@osr/contracts/replication-facts";
import {
  type AgentSettings,
  type GatewayAssignment,
  type MachineRegistration,
  SITE_ROUTES,
  agentSettingsShape,
  gatewayAssignmentShape,
} from "@osr/contracts/site-protocol";
import { type Shape, parseJson } from "@osr/base/json-shape";
import { type EnrolmentSecret, enrolRole } from "@osr/control-link/enrolment-client";
import type { RoleIdentity } from "@osr/control-link/role-identity";
import { httpsUrl, serverAddress } from "@osr/control-link/server-address";
import { HttpsClient } from "@osr/https/https-client";

import { ConfigurationServer, type ConfigurationServerConfig } from "../configuration-server.ts";
import { createToken } from "../enrolment-desk.ts";
import { FABRIC_IDENTITY } from "../fabric-identity.ts";
import { registerFabric } from "../fabric-registration.ts";
import { type Site, openSite } from "../site.ts";
import type { FakeVault } from "./fake-vault.ts";

const ports = { clock: systemClock, scheduler: systemScheduler, randomness: systemRandomness };

/** A configuration server on loopback with a state folder of its own. */
export class TestSite implements AsyncDisposable {
  readonly folder = mkdtempSync(join(tmpdir(), "osr-configuration-server-"));
  readonly secret: Buffer;
  readonly #options: Partial<ConfigurationServerConfig> & { readonly clock?: Clock };
  #site: Site | undefined;
  #server: ConfigurationServer | undefined;
  #running: Promise<void> | undefined;
  port = 0;

  constructor(
    options: Partial<ConfigurationServerConfig> & { readonly clock?: Clock } = {},
    secret: Buffer = systemRandomness.bytes(32),
  ) {
    this.#options = options;
    this.secret = secret;
  }

  get site(): Site {
    if (this.#site === undefined) throw new Error("the site is not open");
    return this.#site;
  }

  get address(): string {
    return `127.0.0.1:${this.port}`;
  }

  /** Starts the role, again with the state of the last run. */
  async start(): Promise<this> {
    const { clock = systemClock, ...config } = this.#options;
    const stateFolder = join(this.folder, "state");
    this.#site = await openSite({ secret: this.secret, stateFolder }, { ...ports, clock });
    this.#server = new ConfigurationServer(
      {
        host: "127.0.0.1",
        port: this.port,
        names: ["127.0.0.1"],
        hostName: "cs",
        version: "0.1.0",
        statusMs: 50,
        tickMs: 20,
        ...config,
      },
      { ...ports, clock, site: this.#site, log: silentLog },
    );
    this.#running = this.#server.run();
    this.#running.catch(() => undefined);
    ({ port: this.port } = await this.#server.listening);
    return this;
  }

  async stop(): Promise<void> {
    await this.#server?.stop();
    await this.#running;
    this.#site?.[Symbol.dispose]();
    this.#site = undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** Registers with the vault, or takes over the fabric there. */
  async register(vault: Pick<FakeVault, "credentials">, fabricId?: Uuid): Promise<Uuid> {
    const { site } = this;
    const identity = await registerFabric(
      {
        credentials: await vault.credentials(),
        name: "site-a",
        fabricId,
        takeoverKey: site.keys.takeoverKey,
        siteAuthorityPem: site.authority.certificatePem,
        hostName: "cs",
        version: "0.1.0",
      },
      ports,
    );
    site.state.keep(FABRIC_IDENTITY, identity);
    return identity.fabricId;
  }

  token(role: EnrolledRole, id?: Uuid, validMs = HOUR_MS): EnrolmentSecret {
    const { tokenId, token } = createToken(
      { ...ports, state: this.site.state },
      { role, id, validMs },
    );
    return { kind: "token", tokenId, secret: token };
  }

  /** Enrols a role, by a new token unless a secret is given. */
  async enrol(
    role: EnrolledRole,
    options: {
      readonly secret?: EnrolmentSecret;
      readonly id?: Uuid;
      readonly fingerprint?: string;
    } = {},
  ): Promise<TestRole> {
    const { site, address } = this;
    const identity = await enrolRole(
      {
        role,
        configurationServer: address,
        authorityFingerprint: options.fingerprint ?? site.fingerprint,
        secret: options.secret ?? this.token(role),
        id: options.id,
        hostName: role,
        biosUuid: randomUuid(systemRandomness),
        addresses: ["127.0.0.1"],
      },
      ports,
    );
    return new TestRole(identity);
  }
}

/** A role that has enrolled, as the configuration server sees it. */
export class TestRole implements Disposable {
  readonly identity: RoleIdentity;
  readonly client: HttpsClient;

  constructor(identity: RoleIdentity) {
    this.identity = identity;
    this.client = new HttpsClient({
      baseUrl: httpsUrl(serverAddress(identity.configurationServer)),
      authorityPem: identity.authorityPem,
      identity,
      peer: { role: "configuration-server" },
      socketsMax: 4,
      timeoutMs: 30 * SECOND_MS,
      scheduler: systemScheduler,
    });
  }

  get id(): Uuid {
    return this.identity.id;
  }

  [Symbol.dispose](): void {
    this.client[Symbol.dispose]();
  }

  async post(path: string, body: unknown): Promise<void> {
    await this.client.request({ method: "POST", path, body: Buffer.from(JSON.stringify(body)) });
  }

  /** Undefined where there was nothing new in time. */
  settings(after = 0): Promise<AgentSettings | undefined> {
    return this.#ask(SITE_ROUTES.machineSettings, after, agentSettingsShape);
  }

  assignment(after = 0): Promise<GatewayAssignment | undefined> {
    return this.#ask(SITE_ROUTES.gatewayAssignment, after, gatewayAssignmentShape);
  }

  /** Registers the machine and reports. */
  async report(facts: Partial<MachineReplicationFacts> = {}): Promise<void> {
    await this.post(SITE_ROUTES.machine, registration(this.identity.id));
    await this.post(SITE_ROUTES.machineStatus, { ...MACHINE_FACTS, ...facts });
  }

  async reportGateway(facts: Partial<GatewayFacts> = {}): Promise<void> {
    await this.post(SITE_ROUTES.gatewayStatus, { ...gatewayFacts(), ...facts });
  }

  async #ask<T>(path: string, after: number, shape: Shape<T>): Promise<T | undefined> {
    const reply = await this.client.request({ method: "GET", path: `${path}?after=${after}` });
    return reply.status === 204 ? undefined : parseJson(reply.body.toString("utf8"), shape);
  }
}

export const MACHINE_FACTS: MachineReplicationFacts = {
  state: "idle",
  agentVersion: "0.1.0",
  pointsMade: 0,
  pointsMissed: 0,
  disks: [],
  health: [],
};

export function gatewayFacts(port = 9443): GatewayFacts {
  return {
    hostName: "ps",
    version: "0.1.0",
    address: { host: "127.0.0.1", port },
    certificateExpiresUnixMs: Math.floor(systemClock.unixMs()) + 30 * 24 * HOUR_MS,
    cacheFreePermille: 900,
    cpuPermille: 100,
    memoryPermille: 100,
    pendingUploadBytes: 0,
    protectedMachines: 0,
    health: [],
  };
}

export function registration(biosUuid: string, addresses = "192.0.2.7"): MachineRegistration {
  return {
    agentVersion: "0.1.0",
    machine: {
      hostName: "web01",
      biosUuid,
      operatingSystem: "Debian GNU/Linux 12",
      kernel: "6.1.0",
      firmware: "bios",
      cpuCount: 2,
      memoryBytes: 2 ** 31,
    },
    addresses,
    disks: [{ identity: "serial:a", name: "vda", sizeBytes: 2 ** 31, isBoot: true }],
  };
}

export const DATA_KEY = "0f".repeat(32);

/** As a vault wishes it of a machine with one disk. */
export function desiredItem(machineId: Uuid, change: Partial<DesiredItem> = {}): DesiredItem {
  return {
    grant: {
      machineId,
      groupId: machineId,
      groupKey: "ab".repeat(32),
      disks: [{ identity: "serial:a", diskId: machineId, timeline: 1, dataKey: DATA_KEY }],
    },
    isProtected: true,
    excludedDisks: [],
    pointIntervalSeconds: 15,
    appPointIntervalSeconds: 0,
    resyncRequest: 0,
    ...change,
  };
}
