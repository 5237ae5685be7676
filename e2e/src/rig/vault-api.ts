import { readFileSync } from "node:fs";
import { request as send } from "node:https";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";

import { OsrError } from "@osr/base/errors";
import { MINUTE_MS, SECOND_MS } from "@osr/base/units";

import { RIG_ERRORS } from "./rig-errors.ts";
import type { Site } from "./site.ts";
import { RESOURCE_GROUP, SUBSCRIPTION, VAULT } from "./vault-clients.ts";

const VERSION = "api-version=2025-08-01";
const REPLY_MS_MAX = 30 * SECOND_MS;
const AWAY_MS_MAX = 2 * MINUTE_MS;
const POLL_MS = 100;

// oxlint-disable-next-line typescript/no-explicit-any -- What a vault answers is looked at by checks that fail where it is something else.
export type Body = any;
export type Reply = { readonly status: number; readonly body: Body };
type Asked = { readonly method: string; readonly path: string; readonly body?: object | undefined };

export type Job = {
  readonly id: string;
  readonly scenario: string;
  readonly state: string;
  readonly errors: readonly string[];
  readonly tasks: readonly { readonly name: string; readonly state: string }[];
};

/** The management API of a site's vault, for scenarios in which that vault dies: each request has a connection of its own. */
export class VaultApi {
  readonly root = `/subscriptions/${SUBSCRIPTION}/resourceGroups/${RESOURCE_GROUP}/providers/Microsoft.RecoveryServices/vaults/${VAULT}`;
  readonly #site: Site;
  readonly #signal: AbortSignal;

  constructor(site: Site, signal: AbortSignal) {
    this.#site = site;
    this.#signal = signal;
  }

  /** One attempt; undefined where no answer came, whatever the vault has made of the request. */
  async attempt({ method, path, body }: Asked): Promise<Reply | undefined> {
    this.#signal.throwIfAborted();
    const file = (...names: string[]): string =>
      readFileSync(join(this.#site.directory, ...names), "utf8");
    const { promise, resolve } = Promise.withResolvers<Reply | undefined>();
    const url = `https://127.0.0.1:${this.#site.vaultPort}${this.root}${path}${path.includes("?") ? "&" : "?"}${VERSION}`;
    const outgoing = send(
      url,
      {
        method,
        agent: false,
        ca: file("vault", "authority.pem"),
        timeout: REPLY_MS_MAX,
        headers: {
          authorization: `Bearer ${file("secrets", "administrator.token").trim()}`,
          ...(body === undefined ? {} : { "content-type": "application/json" }),
        },
      },
      (message) => {
        const chunks: Buffer[] = [];
        message.on("data", (chunk: Buffer) => chunks.push(chunk));
        message.on("error", () => resolve(undefined));
        message.on("end", () =>
          resolve({ status: message.statusCode ?? 0, body: parsed(Buffer.concat(chunks)) }),
        );
      },
    );
    outgoing.on("error", () => resolve(undefined));
    outgoing.on("timeout", () => outgoing.destroy());
    outgoing.end(body === undefined ? undefined : JSON.stringify(body));
    return await promise;
  }

  /** Asks until the vault answers: for what may be asked twice. Throws RIG_TIMEOUT. */
  async ask(asked: Asked): Promise<Reply> {
    for (const end = performance.now() + AWAY_MS_MAX; performance.now() < end;) {
      const reply = await this.attempt(asked);
      // 503: it is there, and its database is not.
      if (reply !== undefined && reply.status !== 503) return reply;
      await wait(POLL_MS, undefined, { signal: this.#signal });
    }
    throw new OsrError(
      RIG_ERRORS.RIG_TIMEOUT,
      `the vault did not answer ${asked.method} ${asked.path}`,
    );
  }

  /** What a GET gives; undefined where there is no such thing. Throws RIG_COMMAND_FAILED for any other refusal. */
  async get(path: string): Promise<Body> {
    const { status, body } = await this.ask({ method: "GET", path });
    if (status === 404) return undefined;
    if (status === 200) return body;
    throw new OsrError(
      RIG_ERRORS.RIG_COMMAND_FAILED,
      `GET ${path}: ${status} ${JSON.stringify(body)}`,
    );
  }

  async list(path: string): Promise<readonly Body[]> {
    return (await this.get(path)).value;
  }

  /** All jobs of the vault, newest first. */
  async jobs(): Promise<readonly Job[]> {
    return (await this.list("/replicationJobs?$top=1000")).map(jobOf);
  }

  /** Waits until a job has ended, however it did. Throws RIG_TIMEOUT. */
  async ended(id: string, msMax: number): Promise<Job> {
    let job: Job | undefined;
    for (const end = performance.now() + msMax; performance.now() < end;) {
      job = jobOf(await this.get(`/replicationJobs/${id}`));
      if (!["NotStarted", "InProgress", "Suspended"].includes(job.state)) return job;
      await wait(POLL_MS, undefined, { signal: this.#signal });
    }
    throw new OsrError(
      RIG_ERRORS.RIG_TIMEOUT,
      `job ${id} has not ended in ${msMax} ms: ${JSON.stringify(job)}`,
    );
  }
}

function jobOf({ name, properties }: Body): Job {
  return {
    id: name,
    scenario: properties.scenarioName,
    state: properties.state,
    errors: properties.errors.map(
      (error: Body) => `${error.serviceErrorDetails.code}: ${error.serviceErrorDetails.message}`,
    ),
    tasks: properties.tasks.map(({ taskId, state }: Body) => ({ name: taskId, state })),
  };
}

function parsed(bytes: Buffer): Body {
  try {
    return JSON.parse(bytes.toString("utf8"));
  } catch {
    return undefined;
  }
}
