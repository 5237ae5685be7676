import { chmodSync, mkdirSync, rmSync } from "node:fs";
import { type IncomingMessage, type Server, type ServerResponse, createServer } from "node:http";
import { connect } from "node:net";
import { dirname } from "node:path";

import { OsrError, defineErrors } from "@osr/base/errors";
import { type Shape, parseJson } from "@osr/base/json-shape";
import type { Log } from "@osr/base/log";
import type { Service } from "@osr/base/service";
import { type Uuid, isUuid } from "@osr/base/uuid";
import {
  REPLICA_CONSOLE_BYTES_MAX,
  REPLICA_HOST_BODY_BYTES_MAX,
  REPLICA_HOST_ROUTES,
  askedByShape,
  replicaSpecShape,
  startRequestShape,
} from "@osr/contracts/replica-host";
import { errorBodyOf } from "@osr/https/error-body";
import { sendError, sendJson } from "@osr/https/replies";
import { readBody } from "@osr/https/request-body";
import type { ReplicaHost } from "@osr/vault/replicas/replica-host";

const ERRORS = defineErrors({
  NOT_FOUND: { retryable: false, hint: "See docs/formats/replica-host.md." },
  REPLICA_HOST_RUNS: {
    retryable: false,
    hint: "Another replica host listens on this socket. Stop it, or give this one another socket and folder.",
  },
});

/** Offers a replica host to the vault, over a unix socket. */
export class ReplicaHostServer implements Service {
  readonly #host: ReplicaHost;
  readonly #socketPath: string;
  readonly #log: Log;
  readonly #server: Server;
  readonly #listening = Promise.withResolvers<{ readonly socketPath: string }>();
  readonly #stopping = Promise.withResolvers<void>();
  /** A caller that goes away ends nothing. */
  readonly #forEver = new AbortController().signal;

  constructor(host: ReplicaHost, options: { readonly socketPath: string; readonly log: Log }) {
    this.#host = host;
    this.#socketPath = options.socketPath;
    this.#log = options.log;
    this.#server = createServer((request, response) => void this.#take(request, response));
    this.#listening.promise.catch(() => undefined);
  }

  get listening(): Promise<{ readonly socketPath: string }> {
    return this.#listening.promise;
  }

  async run(): Promise<void> {
    try {
      await this.#listen();
    } catch (error) {
      this.#listening.reject(error);
      throw error;
    }
    this.#listening.resolve({ socketPath: this.#socketPath });
    await this.#stopping.promise;
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#server.closeAllConnections();
    await closed;
  }

  stop(): Promise<void> {
    this.#stopping.resolve();
    return Promise.resolve();
  }

  async #listen(): Promise<void> {
    mkdirSync(dirname(this.#socketPath), { recursive: true, mode: 0o700 });
    await demandFreeSocket(this.#socketPath);
    rmSync(this.#socketPath, { force: true });
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#server.once("error", reject);
    this.#server.listen(this.#socketPath, resolve);
    await promise;
    chmodSync(this.#socketPath, 0o600);
  }

  async #take(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      const reply = await this.#reply(request);
      if (response.destroyed) return;
      if (reply === undefined) response.writeHead(204).end();
      else sendJson(response, 200, reply);
    } catch (error) {
      if (error instanceof OsrError && !response.headersSent && !response.destroyed)
        return sendJson(response, statusOf(error), errorBodyOf(error));
      sendError(response, error, {}, this.#log);
    }
  }

  async #reply(request: IncomingMessage): Promise<object | undefined> {
    const url = new URL(request.url ?? "/", "http://replica-host");
    const [, version, collection, id, verb, ...rest] = url.pathname.split("/");
    const place = [version, collection, id === undefined ? undefined : "*", verb];
    const call = `${request.method} /${place.filter((part) => part !== undefined).join("/")}`;
    if (call === `POST ${REPLICA_HOST_ROUTES.preflight}`)
      return {
        objections: await this.#host.preflight(
          await bodyOf(request, replicaSpecShape),
          this.#forEver,
        ),
      };
    if (call === `POST ${REPLICA_HOST_ROUTES.replicas}`) return await this.#start(request);
    if (call === `GET ${REPLICA_HOST_ROUTES.replicas}`)
      return { replicas: await this.#host.list() };
    if (isUuid(id) && rest.length === 0)
      switch (call) {
        case "GET /v1/replicas/*":
          return { replica: await this.#host.facts(id) };
        case "POST /v1/replicas/*/destroy":
          return await this.#destroy(id, request);
        case "GET /v1/replicas/*/console":
          return { text: await this.#host.console(id, bytesOf(url)) };
        case "GET /v1/replicas/*/screenshot":
          return { png: (await this.#host.screenshot(id))?.toString("base64") };
        default:
      }
    throw new OsrError(ERRORS.NOT_FOUND, `there is nothing at ${request.method} ${url.pathname}`);
  }

  async #start(request: IncomingMessage): Promise<object> {
    const { spec, by } = await bodyOf(request, startRequestShape);
    return { replica: await this.#host.start(spec, by, this.#forEver) };
  }

  async #destroy(id: Uuid, request: IncomingMessage): Promise<undefined> {
    await this.#host.destroy(id, await bodyOf(request, askedByShape));
    return undefined;
  }
}

function statusOf({ code, retryable }: OsrError): number {
  if (code === "INPUT_INVALID") return 400;
  if (code === "NOT_FOUND") return 404;
  if (code === "BODY_TOO_LARGE") return 413;
  return retryable ? 503 : 409;
}

async function bodyOf<T>(request: IncomingMessage, shape: Shape<T>): Promise<T> {
  const body = await readBody(request, REPLICA_HOST_BODY_BYTES_MAX);
  return parseJson(body.toString("utf8"), shape);
}

function bytesOf(url: URL): number {
  const bytes = Number(url.searchParams.get("bytes"));
  return Number.isSafeInteger(bytes) && bytes > 0 ? Math.min(bytes, REPLICA_CONSOLE_BYTES_MAX) : 1;
}

/**
 * Throws REPLICA_HOST_RUNS where another host listens: to be asked before machines are taken over, since a second host would serve the disks of machines that the
 * first one serves.
 */
export async function demandFreeSocket(socketPath: string): Promise<void> {
  if (await answers(socketPath))
    throw new OsrError(ERRORS.REPLICA_HOST_RUNS, `${socketPath} is in use`);
}

/** Whether somebody listens there. */
function answers(socketPath: string): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const socket = connect(socketPath);
  socket.once("connect", () => {
    socket.destroy();
    resolve(true);
  });
  socket.once("error", () => resolve(false));
  return promise;
}
