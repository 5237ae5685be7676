import { readFileSync } from "node:fs";
import { setTimeout as wait } from "node:timers/promises";

import { systemScheduler } from "@osr/base/platform/system-scheduler";
import { MINUTE_MS } from "@osr/base/units";
import { HttpsClient } from "@osr/https/https-client";

const API_VERSION = "api-version=2023-06-01";
const SOCKETS_MAX = 16;
const JOB_POLL_MS = 100;

/** What `osr up` leaves in contexts.json. */
export type VaultAddress = {
  readonly vaultUrl: string;
  readonly authorityFile: string;
  readonly tokenFile: string;
  readonly subscription: string;
  readonly resourceGroup: string;
  readonly vault: string;
};

/** The management API of one vault over HTTPS, with kept connections and a bearer token. */
export class ManagementApi implements Disposable {
  /** ARM id of the vault. */
  readonly vaultId: string;
  readonly #client: HttpsClient;
  readonly #headers: Readonly<Record<string, string>>;

  constructor(address: VaultAddress) {
    const { subscription, resourceGroup, vault } = address;
    this.vaultId = `/subscriptions/${subscription}/resourceGroups/${resourceGroup}/providers/Microsoft.RecoveryServices/vaults/${vault}`;
    this.#headers = {
      authorization: `Bearer ${readFileSync(address.tokenFile, "utf8").trim()}`,
      "content-type": "application/json",
    };
    this.#client = new HttpsClient({
      baseUrl: address.vaultUrl,
      authorityPem: readFileSync(address.authorityFile, "utf8"),
      socketsMax: SOCKETS_MAX,
      timeoutMs: MINUTE_MS,
      scheduler: systemScheduler,
    });
  }

  /** `path` is below the vault. Gives the body as it came; throws where the status is not one of success. */
  async get(path: string): Promise<Buffer> {
    return (await this.#request("GET", path)).body;
  }

  async getJson<T>(path: string): Promise<T> {
    return JSON.parse((await this.get(path)).toString("utf8")) as T;
  }

  async post<T>(path: string): Promise<T> {
    return JSON.parse((await this.#request("POST", path)).body.toString("utf8")) as T;
  }

  /** Sends a PUT and gives the path below the vault of the job that it started. */
  async put(path: string, body: object): Promise<string> {
    const { headers } = await this.#request("PUT", path, body);
    const location = new URL(String(headers.location)).pathname;
    return `replicationJobs/${location.split("/").at(-1)}`;
  }

  /** Waits until a job has succeeded. */
  async succeeded(job: string, signal: AbortSignal): Promise<void> {
    for (;;) {
      const { properties } = await this.getJson<{ properties: { state: string } }>(job);
      if (properties.state === "Succeeded") return;
      if (["Failed", "Cancelled"].includes(properties.state))
        throw new Error(`${job}: ${JSON.stringify(properties)}`);
      await wait(JOB_POLL_MS, undefined, { signal });
    }
  }

  [Symbol.dispose](): void {
    this.#client[Symbol.dispose]();
  }

  async #request(method: string, path: string, body?: object): ReturnType<HttpsClient["request"]> {
    return this.#client.request({
      method,
      path: `${this.vaultId}/${path}${path.includes("?") ? "&" : "?"}${API_VERSION}`,
      headers: this.#headers,
      ...(body === undefined ? {} : { body: Buffer.from(JSON.stringify(body)) }),
    });
  }
}
