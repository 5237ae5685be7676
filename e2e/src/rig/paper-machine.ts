import { readFile } from "node:fs/promises";

import { must } from "@osr/base/assert";
import { parseJson } from "@osr/base/json-shape";
import { systemRandomness } from "@osr/base/platform/system-randomness";
import { systemScheduler } from "@osr/base/platform/system-scheduler";
import { GIB, SECOND_MS } from "@osr/base/units";
import { type Uuid, randomUuid } from "@osr/base/uuid";
import { enrolmentTokenShape } from "@osr/contracts/enrolment";
import { type MachineRegistration, SITE_ROUTES } from "@osr/contracts/site-protocol";
import { enrolRole } from "@osr/control-link/enrolment-client";
import type { RoleIdentity } from "@osr/control-link/role-identity";
import { httpsUrl, serverAddress } from "@osr/control-link/server-address";
import { HttpsClient } from "@osr/https/https-client";
import { replicate } from "@osr/vault/testing/test-replication";

import type { Site } from "./site.ts";
import { type SiteState, withStore } from "./site-state.ts";

const TIMEOUT_MS = 30 * SECOND_MS;
export const PAPER_DISKS = 2;
const DISKS = Array.from({ length: PAPER_DISKS }, (_, n) => ({
  identity: `serial:${n}`,
  name: `vd${"ab"[n]}`,
  sizeBytes: GIB,
  isBoot: n === 0,
}));

/**
 * A machine without a machine: the control plane's side of an agent. It enrols and registers with the real configuration server; its logs and recovery points
 * are real objects in the real storage account, written with the keys that the site was given.
 */
export class PaperMachine implements Disposable {
  readonly name: string;
  readonly id: Uuid;
  readonly disks = DISKS;
  readonly #site: Site;
  readonly #client: HttpsClient;

  private constructor(site: Site, name: string, identity: RoleIdentity) {
    this.name = name;
    this.id = identity.id;
    this.#site = site;
    this.#client = new HttpsClient({
      baseUrl: httpsUrl(serverAddress(identity.configurationServer)),
      authorityPem: identity.authorityPem,
      identity,
      peer: { role: "configuration-server" },
      socketsMax: 1,
      timeoutMs: TIMEOUT_MS,
      scheduler: systemScheduler,
    });
  }

  /** Enrols by a one-time token, as any machine, and registers. */
  static async enrol(site: Site, name: string, address: string): Promise<PaperMachine> {
    const text = await readFile(await site.enrolmentToken(name), "utf8");
    const token = parseJson(text, enrolmentTokenShape);
    const biosUuid = randomUuid(systemRandomness);
    const identity = await enrolRole(
      {
        role: "mobility-service",
        configurationServer: `127.0.0.1:${site.configurationServerPort}`,
        authorityFingerprint: token.authorityFingerprint,
        secret: { kind: "token", tokenId: token.tokenId, secret: token.token },
        hostName: name,
        biosUuid,
        addresses: [address],
      },
      { scheduler: systemScheduler, randomness: systemRandomness },
    );
    const machine = new PaperMachine(site, name, identity);
    await machine.#post(SITE_ROUTES.machine, registration(name, biosUuid, address));
    return machine;
  }

  /** Claims the logs of its disks, where somebody else has them, and makes recovery points at these slots. */
  async replicate(state: SiteState, slots: readonly number[]): Promise<void> {
    const wish = must(state.wish(this.id), "the site is to replicate the machine");
    await withStore(this.#site, "ingest", (store, vaultId) =>
      replicate(store, vaultId, wish, slots),
    );
  }

  [Symbol.dispose](): void {
    this.#client[Symbol.dispose]();
  }

  async #post(path: string, body: object): Promise<void> {
    await this.#client.request({ method: "POST", path, body: Buffer.from(JSON.stringify(body)) });
  }
}

function registration(hostName: string, biosUuid: string, addresses: string): MachineRegistration {
  return {
    agentVersion: "0.1.0",
    machine: {
      hostName,
      biosUuid,
      operatingSystem: "Debian GNU/Linux 12",
      kernel: "6.1.0",
      firmware: "bios",
      cpuCount: 2,
      memoryBytes: 2 * GIB,
    },
    addresses,
    disks: DISKS,
  };
}
