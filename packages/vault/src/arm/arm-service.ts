import type { IncomingMessage, ServerResponse } from "node:http";

import type { Clock } from "@osr/base/clock";
import type { Log } from "@osr/base/log";
import type { Randomness } from "@osr/base/randomness";
import { isUuid, randomUuid } from "@osr/base/uuid";
import { readBody } from "@osr/https/request-body";

import { recordAudit } from "../access/audit.ts";
import { RateLimit, type RateLimits } from "../access/rate-limit.ts";
import { authorize } from "../access/roles.ts";
import { type AuthenticatedCaller, authenticate } from "../access/token.ts";
import type { VaultDatabase } from "../database/database.ts";
import { inTransaction } from "../database/transaction.ts";
import { findVault } from "../resources/vault-row.ts";
import { ArmError, notFound } from "./arm-error.ts";
import { pathSegments } from "./arm-path.ts";
import { armErrorOf, errorBody, sendReply } from "./arm-reply.ts";
import { BODY_BYTES_MAX, parseBody } from "./json-body.ts";
import { acceptedHeaders, operationStatus } from "./long-running.ts";
import type { ArmAccepted, ArmReply, ArmRequest, VaultRow } from "./resource-routes.ts";
import type { AnyRoute, RouteMatch, Router } from "./router.ts";

export type ArmServiceOptions = {
  readonly database: VaultDatabase;
  readonly router: Router;
  readonly clock: Clock;
  readonly randomness: Randomness;
  readonly log: Log;
  /** What clients are told to wait between polls. The real service says 30. */
  readonly retryAfterSeconds: number;
  readonly rateLimits: RateLimits;
  /** Counts and times a finished request by its route's template. */
  readonly observe: (route: string, method: string, status: number, ms: number) => void;
};

type Answer = {
  readonly status: number;
  readonly body?: ArmReply["body"];
  readonly headers?: Record<string, string>;
};

/** The management API: who asks, may they, what is it, and the answer in ARM's form. */
export class ArmService {
  readonly #options: ArmServiceOptions;
  readonly #callers: RateLimit;
  readonly #strangers: RateLimit;

  constructor(options: ArmServiceOptions) {
    this.#options = options;
    this.#callers = new RateLimit(options.rateLimits, options.clock);
    // Whoever has no good token gets few tries.
    this.#strangers = new RateLimit({ requestsPerSecond: 5, burst: 50 }, options.clock);
  }

  async handle(
    message: IncomingMessage,
    response: ServerResponse,
    signal: AbortSignal,
  ): Promise<void> {
    const { clock, randomness } = this.#options;
    const beganMs = clock.monotonicMs();
    const requestId = randomUuid(randomness);
    const clientId = headerOf(message, "x-ms-client-request-id")?.slice(0, 128);
    const activityId = clientId === undefined ? requestId : `${clientId} ActivityId: ${requestId}`;
    const log = this.#options.log.child({ activityId });
    response.setHeader("x-ms-request-id", requestId);
    if (clientId !== undefined) response.setHeader("x-ms-client-request-id", clientId);
    const seen = { route: "none" };
    let answer: Answer;
    try {
      answer = await this.#answer(message, activityId, signal, seen);
    } catch (error) {
      answer = refusal(armErrorOf(error, log));
    }
    sendReply(response, answer.status, answer.body, answer.headers);
    const ms = clock.monotonicMs() - beganMs;
    this.#options.observe(seen.route, message.method ?? "", answer.status, ms);
    log.debug("answered", { method: message.method, path: message.url, status: answer.status, ms });
  }

  async #answer(
    message: IncomingMessage,
    activityId: string,
    signal: AbortSignal,
    seen: { route: string },
  ): Promise<Answer> {
    const caller = await this.#authenticated(message);
    const [path, query] = splitOnce(message.url ?? "", "?");
    const segments = pathSegments(path);
    const request = {
      query: new Map(
        [...new URLSearchParams(query)].map(([k, v]) => [k.toLowerCase(), v] as const),
      ),
      caller,
      activityId,
      baseUrl: `https://${headerOf(message, "host") ?? "localhost"}`,
      signal,
    };
    const apiVersion = request.query.get("api-version");
    if (apiVersion === undefined || apiVersion === "")
      throw new ArmError(
        400,
        "MissingApiVersionParameter",
        "the query parameter api-version is missing",
        "Add ?api-version=2023-06-01.",
      );
    const call: Call = { message, caller, request: { ...request, apiVersion } };
    if (segments.at(-2)?.toLowerCase() === "operationresults")
      return this.#operationResult(call, segments, seen);
    return this.#dispatch(call, message.method ?? "", segments, seen);
  }

  async #authenticated(message: IncomingMessage): Promise<AuthenticatedCaller> {
    const { database, clock } = this.#options;
    try {
      const caller = await authenticate(database, headerOf(message, "authorization"), clock);
      this.#callers.take(caller.tokenId);
      return caller;
    } catch (error) {
      if (error instanceof ArmError && error.status === 401)
        this.#strangers.take(message.socket.remoteAddress ?? "");
      throw error;
    }
  }

  async #dispatch(
    call: Call,
    method: string,
    segments: readonly string[],
    seen: { route: string },
  ): Promise<Answer> {
    const { database, router } = this.#options;
    const match = router.match(method, segments);
    const { route } = match;
    seen.route = route.path;
    const path = `/${segments.join("/")}`;
    authorize(call.caller, route.action, path);
    const request: ArmRequest = {
      ...call.request,
      parameters: match.parameters,
      resourcePath: `/${segments.slice(0, match.resourceSegments).join("/")}`,
      segments: segments.slice(0, match.resourceSegments),
      body: "read" in route || "readRoot" in route ? undefined : await bodyOf(call.message),
    };
    if ("readRoot" in route) return route.readRoot(request, database);
    const vault = "read" in route || "write" in route ? await vaultOf(database, match) : undefined;
    if ("read" in route) return route.read({ ...request, vault: must(vault) }, database);
    return this.#write(call, route, request, vault, path);
  }

  /** One transaction with the write and its audit row; a refusal is audited alone. */
  async #write(
    call: Call,
    route: Exclude<AnyRoute, { method: "GET" }>,
    request: ArmRequest,
    vault: VaultRow | undefined,
    path: string,
  ): Promise<Answer> {
    const { database, clock, log } = this.#options;
    const entry = {
      at: clock.unixMs(),
      caller: call.caller.name,
      tokenId: call.caller.tokenId,
      method: route.method,
      path,
      action: route.action,
      activityId: request.activityId,
    };
    const attempt = (): Promise<ArmReply | ArmAccepted> =>
      inTransaction(database, async (tx) => {
        const reply =
          "writeRoot" in route
            ? await route.writeRoot(request, tx)
            : await route.write({ ...request, vault: must(vault) }, tx);
        const jobId = "acceptedJobId" in reply ? reply.acceptedJobId : null;
        const status = "acceptedJobId" in reply ? 202 : reply.status;
        await recordAudit(tx, { ...entry, status, code: null, jobId });
        return reply;
      });
    try {
      const reply = await attempt();
      if (!("acceptedJobId" in reply)) return reply;
      return {
        status: 202,
        headers: acceptedHeaders(
          { ...request, resourcePath: reply.resourcePath ?? request.resourcePath },
          must(vault),
          reply.acceptedJobId,
          this.#options.retryAfterSeconds,
        ),
      };
    } catch (error) {
      const refused = armErrorOf(error, log.child({ activityId: request.activityId }));
      const { status, armCode: code } = refused;
      if (status !== 503) await recordAudit(database, { ...entry, status, code, jobId: null });
      throw refused;
    }
  }

  /** `{resource}/operationresults/{id}`: 202 while the job runs, then the resource, 204 where it is gone. */
  async #operationResult(
    call: Call,
    segments: readonly string[],
    seen: { route: string },
  ): Promise<Answer> {
    if (call.message.method !== "GET")
      throw new ArmError(405, "MethodNotAllowed", "results are read with GET", "Possible: GET.");
    const { database } = this.#options;
    const jobId = segments.at(-1)?.toLowerCase();
    const resource = segments.slice(0, -2);
    const path = `/${resource.join("/")}`;
    authorize(call.caller, "Microsoft.RecoveryServices/vaults/replicationJobs/read", path);
    const vault = await findVault(database, segments.slice(0, 8));
    if (vault === undefined) throw notFound("the vault");
    if (resource.length === 8 && segments.at(-2) === "operationResults" && !isUuid(jobId))
      throw notFound("the operation");
    const status = isUuid(jobId) ? await operationStatus(database, vault.id, jobId) : undefined;
    if (status === undefined || !isUuid(jobId)) throw notFound(`operation ${jobId ?? ""}`);
    if (!status.isEnded) {
      const place = { parameters: {}, resourcePath: path, segments: resource, body: undefined };
      const request = { ...call.request, ...place };
      const headers = acceptedHeaders(request, vault, jobId, this.#options.retryAfterSeconds);
      return { status: 202, headers };
    }
    if (status.hasFailed) return { status: 409, body: { error: status.body["error"] } };
    try {
      return await this.#dispatch(call, "GET", resource, seen);
    } catch (error) {
      const isGone = error instanceof ArmError && [404, 405].includes(error.status);
      if (!isGone) throw error;
      return { status: 204 };
    }
  }
}

type Call = {
  readonly message: IncomingMessage;
  readonly caller: AuthenticatedCaller;
  readonly request: Omit<ArmRequest, "parameters" | "resourcePath" | "segments" | "body">;
};

function refusal(error: ArmError): Answer {
  const { details } = error;
  const wait =
    "retryAfterSeconds" in details ? { "retry-after": String(details.retryAfterSeconds) } : {};
  const ask =
    error.status === 401 ? { "www-authenticate": 'Bearer realm="Open Site Recovery"' } : {};
  const allow = "allowed" in details ? { allow: String(details.allowed) } : {};
  return { status: error.status, body: errorBody(error), headers: { ...wait, ...ask, ...allow } };
}

async function bodyOf(message: IncomingMessage): Promise<ArmRequest["body"]> {
  return parseBody(await readBody(message, BODY_BYTES_MAX));
}

async function vaultOf(database: VaultDatabase, match: RouteMatch): Promise<VaultRow> {
  const { subscriptionId = "", resourceGroupName = "", vaultName = "" } = match.parameters;
  const key = ["subscriptions", subscriptionId, "resourceGroups", resourceGroupName, "providers"];
  const vault = await findVault(database, [
    ...key,
    "Microsoft.RecoveryServices",
    "vaults",
    vaultName,
  ]);
  if (vault === undefined) throw notFound(`vault ${vaultName}`);
  return vault;
}

function headerOf(message: IncomingMessage, name: string): string | undefined {
  const value = message.headers[name];
  return Array.isArray(value) ? value[0] : value;
}

function splitOnce(text: string, separator: string): [string, string] {
  const at = text.indexOf(separator);
  return at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at + 1)];
}

function must<T>(value: T | undefined): T {
  if (value === undefined) throw new TypeError("a route below a vault has its vault");
  return value;
}
