import type { IncomingHttpHeaders, IncomingMessage } from "node:http";
import { type RequestOptions, request as secureRequest } from "node:https";

import { OsrError, hasCode, messageOf, systemErrorCode } from "@osr/base/errors";
import type { Scheduler } from "@osr/base/scheduler";
import { KIB, MIB } from "@osr/base/units";

import { errorOfReply } from "./error-body.ts";
import {
  type ClientIdentity,
  type HttpsAgentOptions,
  type TunnellingAgent,
  createHttpsAgent,
} from "./https-agent.ts";
import { HTTPS_ERRORS } from "./https-errors.ts";
import { readBody } from "./request-body.ts";

/** Longest reply that a client takes, in bytes. */
const REPLY_BYTES_MAX = 16 * MIB;

export type HttpsClientOptions = {
  /** `https://host:port`, with a path that is put before every request's where it has one. */
  readonly baseUrl: string;
  /** The authority that the server's certificate must come from; nothing else is trusted. */
  readonly authorityPem: string;
  readonly identity?: ClientIdentity;
  /** See HttpsAgentOptions. */
  readonly peer?: HttpsAgentOptions["peer"];
  readonly socketsMax: number;
  /** Longest time from the call to the whole reply. */
  readonly timeoutMs: number;
  readonly proxyUrl?: string;
  readonly scheduler: Scheduler;
};

export type ClientRequest = {
  readonly method: string;
  /** Begins with a slash. */
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Several buffers are sent one after the other, without being copied together. */
  readonly body?: Buffer | readonly Buffer[];
  /** Instead of the client's. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
};

export type ClientReply = {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
};

/**
 * A body from here on leaves after the headers, not with them: Node's TLS copies what it is given together into one piece of
 * memory, which takes as much again for every batch under way.
 */
const ALONE_BYTES_MIN = 64 * KIB;

/** Codes of Node and OpenSSL that say that one side does not accept the other's certificate. */
const UNTRUSTED_CODE =
  /^(CERT_|UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO_|INVALID_CA|INVALID_PURPOSE|HOSTNAME_MISMATCH|ERR_TLS_CERT_)|^ERR_SSL_.*(CERTIFICATE|UNKNOWN_CA|ACCESS_DENIED|PROTOCOL_VERSION|UNSUPPORTED_PROTOCOL|HANDSHAKE_FAILURE)/;

/** Requests to one role of ours, over TLS 1.3 with kept connections. */
export class HttpsClient implements Disposable {
  readonly #options: HttpsClientOptions;
  readonly #base: URL;
  readonly #agent: TunnellingAgent;

  constructor(options: HttpsClientOptions) {
    this.#options = options;
    this.#base = new URL(options.baseUrl);
    this.#agent = createHttpsAgent({ ...options, tlsVersionMin: "TLSv1.3" });
  }

  /**
   * Sends a request and waits for the whole reply; any status below 400 is success. Otherwise throws the peer's error
   * (see errorOfReply), PEER_UNAVAILABLE (network, proxy, time limit; the request may have had its effect),
   * PEER_UNTRUSTED, REPLY_TOO_LARGE, or the signal's reason.
   */
  async request(request: ClientRequest): Promise<ClientReply> {
    const { signal } = request;
    signal?.throwIfAborted();
    const timeoutMs = request.timeoutMs ?? this.#options.timeoutMs;
    const limit = new AbortController();
    const onAbort = (): void => limit.abort(signal?.reason);
    signal?.addEventListener("abort", onAbort, { once: true });
    using _ = this.#options.scheduler.after(timeoutMs, () =>
      limit.abort(new OsrError(HTTPS_ERRORS.PEER_UNAVAILABLE, `no reply within ${timeoutMs} ms`)),
    );
    let reply: ClientReply;
    try {
      reply = await this.#exchange(request, limit.signal);
    } catch (error) {
      throw limit.signal.aborted ? limit.signal.reason : this.#explained(error);
    } finally {
      signal?.removeEventListener("abort", onAbort);
    }
    if (reply.status >= 400)
      throw errorOfReply({ ...reply, retryAfter: reply.headers["retry-after"] });
    return reply;
  }

  /** New connections show the new certificate. */
  replaceIdentity(identity: ClientIdentity): void {
    this.#agent.replaceIdentity(identity);
  }

  [Symbol.dispose](): void {
    this.#agent.destroy();
  }

  async #exchange(request: ClientRequest, signal: AbortSignal): Promise<ClientReply> {
    const body = request.body === undefined ? [] : [request.body].flat();
    const bytes = body.reduce((sum, buffer) => sum + buffer.length, 0);
    const hasLength = bytes > 0 || !["GET", "HEAD", "DELETE"].includes(request.method);
    const options: RequestOptions = {
      agent: this.#agent,
      host: this.#base.hostname.replace(/^\[|\]$/g, ""),
      port: this.#base.port === "" ? 443 : this.#base.port,
      method: request.method,
      path: this.#base.pathname.replace(/\/$/, "") + request.path,
      headers: { ...request.headers, ...(hasLength ? { "content-length": bytes } : {}) },
      signal,
    };
    const message = await send(options, body);
    return {
      status: message.statusCode ?? 0,
      headers: message.headers,
      body: await readReply(message, request.method),
    };
  }

  #explained(error: unknown): unknown {
    if (error instanceof OsrError) return error;
    const code = systemErrorCode(error);
    const info =
      code !== undefined && UNTRUSTED_CODE.test(code)
        ? HTTPS_ERRORS.PEER_UNTRUSTED
        : HTTPS_ERRORS.PEER_UNAVAILABLE;
    return new OsrError(info, `${this.#base.host}: ${messageOf(error)}`, { cause: error });
  }
}

function send(options: RequestOptions, body: readonly Buffer[]): Promise<IncomingMessage> {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const outgoing = secureRequest(options, resolve);
  outgoing.on("error", reject);
  const write = (): void => {
    for (const buffer of body) outgoing.write(buffer);
    outgoing.end();
  };
  if (body.some(({ length }) => length >= ALONE_BYTES_MIN)) {
    outgoing.once("socket", () => {
      outgoing.flushHeaders();
      write();
    });
  } else {
    // Corked, so that headers and small buffers leave in one segment.
    outgoing.cork();
    write();
  }
  return promise;
}

async function readReply(message: IncomingMessage, method: string): Promise<Buffer> {
  if (method === "HEAD") {
    message.resume();
    return Buffer.alloc(0);
  }
  try {
    return await readBody(message, REPLY_BYTES_MAX);
  } catch (error) {
    message.destroy();
    if (hasCode(error, HTTPS_ERRORS.BODY_INCOMPLETE))
      throw new OsrError(HTTPS_ERRORS.PEER_UNAVAILABLE, "the connection ended within the reply", {
        cause: error,
      });
    if (!hasCode(error, HTTPS_ERRORS.BODY_TOO_LARGE)) throw error;
    throw new OsrError(
      HTTPS_ERRORS.REPLY_TOO_LARGE,
      `the reply is longer than ${REPLY_BYTES_MAX} bytes`,
    );
  }
}
