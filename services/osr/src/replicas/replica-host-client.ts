import { request as send } from "node:http";

import { OsrError, defineErrors, messageOf } from "@osr/base/errors";
import { type Shape, parseJson } from "@osr/base/json-shape";
import { systemRandomness } from "@osr/base/platform/system-randomness";
import { systemScheduler } from "@osr/base/platform/system-scheduler";
import { type RetryPolicy, retried } from "@osr/base/retry";
import { MIB, MINUTE_MS, SECOND_MS } from "@osr/base/units";
import type { Uuid } from "@osr/base/uuid";
import {
  type AskedBy,
  REPLICA_HOST_ROUTES,
  type ReplicaFacts,
  type ReplicaObjection,
  type ReplicaSpec,
  consoleReplyShape,
  preflightReplyShape,
  replicaListShape,
  replicaReplyShape,
  screenshotReplyShape,
} from "@osr/contracts/replica-host";
import { errorOfReply } from "@osr/https/error-body";
import { readBody } from "@osr/https/request-body";
import type { ReplicaHost } from "@osr/vault/replicas/replica-host";

const ERRORS = defineErrors({
  REPLICA_HOST_AWAY: {
    retryable: true,
    hint: "Start the replica host (osr replica-host run), and check the path of its socket in the vault's configuration.",
  },
});

const REPLY_BYTES_MAX = 64 * MIB;
const CALL_MS = MINUTE_MS;
/** Longer than the host allows a start to take. */
const START_MS = 20 * MINUTE_MS;
/** A host that was killed is back within this, and jobs wait for it; every call may be repeated. */
const RETRY: RetryPolicy = { attemptsMax: 12, delayFirstMs: 200, delayMaxMs: 10_000 };
/** Of what people look at: they are told that the host is away instead of being kept waiting. */
const LOOK_MS = 5 * SECOND_MS;
/** Once more, since a kept connection of a host that was replaced breaks at its first use. */
const LOOK_RETRY: RetryPolicy = { attemptsMax: 2, delayFirstMs: 200, delayMaxMs: 200 };

type Call = {
  readonly method: "GET" | "POST";
  readonly path: string;
  readonly body?: object;
  readonly timeoutMs?: number;
  readonly retry?: RetryPolicy;
  readonly signal?: AbortSignal;
};

/** The replica host of another process, over its unix socket. Throws REPLICA_HOST_AWAY. */
export class ReplicaHostClient implements ReplicaHost {
  readonly #socketPath: string;

  constructor(socketPath: string) {
    this.#socketPath = socketPath;
  }

  async preflight(spec: ReplicaSpec, signal: AbortSignal): Promise<readonly ReplicaObjection[]> {
    const call: Call = { method: "POST", path: REPLICA_HOST_ROUTES.preflight, body: spec, signal };
    return (await this.#call(call, preflightReplyShape)).objections;
  }

  async start(spec: ReplicaSpec, by: AskedBy, signal: AbortSignal): Promise<ReplicaFacts> {
    const path = REPLICA_HOST_ROUTES.replicas;
    try {
      const call: Call = { method: "POST", path, body: { spec, by }, timeoutMs: START_MS, signal };
      const { replica } = await this.#call(call, replicaReplyShape);
      if (replica !== undefined) return replica;
    } catch (error) {
      // Going away would leave it running: who gives up says so.
      if (signal.aborted) await this.destroy(spec.replicaId, by);
      throw error;
    }
    throw new OsrError(ERRORS.REPLICA_HOST_AWAY, "the replica host answered without a replica");
  }

  async destroy(replicaId: Uuid, by: AskedBy): Promise<void> {
    const path = REPLICA_HOST_ROUTES.destroy(replicaId);
    await this.#call({ method: "POST", path, body: by }, () => undefined);
  }

  async facts(replicaId: Uuid): Promise<ReplicaFacts | undefined> {
    const path = REPLICA_HOST_ROUTES.replica(replicaId);
    return (await this.#look(path, replicaReplyShape)).replica;
  }

  async list(): Promise<readonly ReplicaFacts[]> {
    const path = REPLICA_HOST_ROUTES.replicas;
    return (await this.#look(path, replicaListShape)).replicas;
  }

  async console(replicaId: Uuid, bytesMax: number): Promise<string> {
    const path = REPLICA_HOST_ROUTES.console(replicaId, bytesMax);
    return (await this.#look(path, consoleReplyShape)).text;
  }

  async screenshot(replicaId: Uuid): Promise<Buffer | undefined> {
    const path = REPLICA_HOST_ROUTES.screenshot(replicaId);
    const { png } = await this.#look(path, screenshotReplyShape);
    return png === undefined ? undefined : Buffer.from(png, "base64");
  }

  #look<T>(path: string, shape: Shape<T>): Promise<T> {
    return this.#call({ method: "GET", path, timeoutMs: LOOK_MS, retry: LOOK_RETRY }, shape);
  }

  #call<T>(call: Call, shape: Shape<T>): Promise<T> {
    const ports = { scheduler: systemScheduler, randomness: systemRandomness };
    const { signal, retry = RETRY } = call;
    const attempt = (): Promise<T> => this.#attempt(call, shape);
    return retried(attempt, retry, { ...ports, ...(signal === undefined ? {} : { signal }) });
  }

  async #attempt<T>({ method, path, body, timeoutMs, signal }: Call, shape: Shape<T>): Promise<T> {
    const limit = AbortSignal.timeout(timeoutMs ?? CALL_MS);
    const signals = signal === undefined ? [limit] : [limit, signal];
    const bytes = body === undefined ? undefined : Buffer.from(JSON.stringify(body), "utf8");
    const { promise, resolve, reject } = Promise.withResolvers<{ status: number; body: Buffer }>();
    const outgoing = send(
      {
        socketPath: this.#socketPath,
        method,
        path,
        signal: AbortSignal.any(signals),
        headers: bytes === undefined ? {} : { "content-length": bytes.length },
      },
      (message) => {
        const status = message.statusCode ?? 0;
        readBody(message, REPLY_BYTES_MAX).then(
          (whole) => resolve({ status, body: whole }),
          reject,
        );
      },
    );
    outgoing.on("error", reject);
    outgoing.end(bytes);
    let reply: { readonly status: number; readonly body: Buffer };
    try {
      reply = await promise;
    } catch (cause) {
      signal?.throwIfAborted();
      const why = limit.aborted ? "no answer in time" : messageOf(cause);
      throw new OsrError(ERRORS.REPLICA_HOST_AWAY, `the replica host does not answer: ${why}`, {
        cause,
      });
    }
    if (reply.status >= 400) throw errorOfReply(reply);
    return reply.status === 204
      ? shape(undefined, "")
      : parseJson(reply.body.toString("utf8"), shape);
  }
}
