import type { IncomingMessage, ServerResponse } from "node:http";
import { type Server, createServer } from "node:https";
import type { AddressInfo } from "node:net";
import type { TLSSocket, TlsOptions } from "node:tls";

import { OsrError, messageOf, systemErrorCode } from "@osr/base/errors";
import type { Log } from "@osr/base/log";
import type { Scheduler } from "@osr/base/scheduler";
import { KIB, MIB, MINUTE_MS, SECOND_MS } from "@osr/base/units";

import { certificateRefusal } from "./certificate-refusal.ts";
import { HTTPS_ERRORS } from "./https-errors.ts";
import { OpenConnections } from "./open-connections.ts";
import { sendError } from "./replies.ts";

export type ServerTls = {
  readonly certificatePem: string;
  readonly privateKeyPem: string;
  /** Where present, every client must show a certificate of this authority, or its requests are refused: see certificateRefusal. */
  readonly clientAuthorityPem?: string;
  /** `optional`: clients without a certificate, or with one that is not accepted, come in as nobody: see peerNameOf. */
  readonly clientCertificate?: "required" | "optional";
  /** Certificates of that authority that are not accepted any more (`X509 CRL`). */
  readonly revokedPem?: string | undefined;
};

export type HttpsServerLimits = {
  readonly connectionsMax: number;
  readonly headerBytesMax: number;
  readonly headerMs: number;
  /** A connection on which nothing moves for this long is cut; there is no limit on how long data may take. */
  readonly socketIdleMs: number;
  /** Rest of a refused body that is taken in and dropped, so that the client can read the answer. */
  readonly unreadBytesMax: number;
  /** Time that handlers have to end when the server is closed. */
  readonly closeMs: number;
};

const HTTPS_SERVER_LIMITS: HttpsServerLimits = {
  connectionsMax: 1024,
  headerBytesMax: 16 * KIB,
  headerMs: 10 * SECOND_MS,
  socketIdleMs: 2 * MINUTE_MS,
  unreadBytesMax: 8 * MIB,
  closeMs: 5 * SECOND_MS,
};

const REQUESTS_PER_SOCKET_MAX = 0; // no limit
const HEADERS_MAX = 64;
const KEEP_ALIVE_MS = 60 * SECOND_MS;

/**
 * Answers one request. `signal` is aborted when the client is gone or the server is being closed; then the handler ends
 * soon. What it throws is answered as an error without a status table, so that handlers normally catch their own.
 */
export type RequestHandler = (
  request: IncomingMessage,
  response: ServerResponse,
  signal: AbortSignal,
) => Promise<void>;

export type HttpsServerOptions = {
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
  readonly tls: ServerTls;
  readonly handler: RequestHandler;
  readonly log: Log;
  readonly scheduler: Scheduler;
  readonly limits?: Partial<HttpsServerLimits>;
};

export type HttpsServer = {
  readonly port: number;
  /**
   * New connections use the new certificate and authority; those that are open go on, unless the client's certificate is on the new list: they are cut, and
   * whoever comes back is refused by name.
   */
  replaceCertificate(tls: ServerTls): void;
  /** Takes no more requests, aborts the signals of those under way, waits for their handlers, cuts every connection. */
  close(): Promise<void>;
};

/** HTTPS for a role: TLS 1.3 only, HTTP/1.1 with keep-alive. Resolves when it listens. */
export async function startHttpsServer(options: HttpsServerOptions): Promise<HttpsServer> {
  const limits = { ...HTTPS_SERVER_LIMITS, ...options.limits };
  const requests = new RequestsUnderWay(options, limits);
  const server = createServer(
    {
      ...tlsOptions(options.tls),
      minVersion: "TLSv1.3",
      handshakeTimeout: limits.headerMs,
      keepAlive: true,
      keepAliveTimeout: KEEP_ALIVE_MS,
      headersTimeout: limits.headerMs,
      requestTimeout: 0,
      connectionsCheckingInterval: Math.min(limits.headerMs, 5 * SECOND_MS),
      maxHeaderSize: limits.headerBytesMax,
      noDelay: true,
    },
    (request, response) => requests.take(request, response),
  );
  server.maxConnections = limits.connectionsMax;
  server.maxRequestsPerSocket = REQUESTS_PER_SOCKET_MAX;
  server.maxHeadersCount = HEADERS_MAX;
  server.setTimeout(limits.socketIdleMs);
  const connections = new OpenConnections(options.tls.revokedPem);
  server.on("secureConnection", (socket: TLSSocket) => connections.add(socket));
  server.on("tlsClientError", (error) =>
    options.log.debug("a TLS handshake failed", { code: systemErrorCode(error) }),
  );
  await listen(server, options);
  server.on("error", (error) => options.log.error("the server failed", { error }));
  return {
    port: (server.address() as AddressInfo).port,
    replaceCertificate: (tls) => {
      server.setSecureContext(tlsOptions(tls));
      connections.revoke(tls.revokedPem);
    },
    close: () => closeServer(server, requests, options, limits),
  };
}

function tlsOptions(tls: ServerTls): TlsOptions {
  const { certificatePem, privateKeyPem, clientAuthorityPem, revokedPem } = tls;
  return {
    cert: certificatePem,
    key: privateKeyPem,
    minVersion: "TLSv1.3",
    ...(clientAuthorityPem === undefined
      ? {}
      : { ca: clientAuthorityPem, requestCert: true, rejectUnauthorized: false }),
    ...(revokedPem === undefined ? {} : { crl: revokedPem }),
  };
}

async function listen(server: Server, options: HttpsServerOptions): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once("error", reject);
  server.listen(options.port, options.host, () => {
    server.off("error", reject);
    resolve();
  });
  return promise;
}

async function closeServer(
  server: Server,
  requests: RequestsUnderWay,
  options: HttpsServerOptions,
  limits: HttpsServerLimits,
): Promise<void> {
  const { promise: closed, resolve } = Promise.withResolvers<void>();
  // The callback has an error where the server was closed before, which is fine: it is closed.
  server.close(() => resolve());
  using _ = options.scheduler.after(limits.closeMs, () => server.closeAllConnections());
  await requests.stop();
  server.closeAllConnections();
  await closed;
}

/** The requests that are being handled, each with its own signal. */
class RequestsUnderWay {
  readonly #handler: RequestHandler;
  readonly #log: Log;
  readonly #limits: HttpsServerLimits;
  readonly #isCertificateRequired: boolean;
  readonly #running = new Map<AbortController, Promise<void>>();
  #stopping = false;

  constructor(options: HttpsServerOptions, limits: HttpsServerLimits) {
    this.#handler = options.handler;
    this.#log = options.log;
    this.#limits = limits;
    const { clientAuthorityPem, clientCertificate } = options.tls;
    this.#isCertificateRequired =
      clientAuthorityPem !== undefined && clientCertificate !== "optional";
  }

  take(request: IncomingMessage, response: ServerResponse): void {
    const controller = new AbortController();
    // Errors of the connection reach the handler through its reads and the signal.
    request.on("error", () => undefined);
    response.on("error", () => undefined);
    response.once("close", () => {
      if (!response.writableFinished)
        controller.abort(new OsrError(HTTPS_ERRORS.BODY_INCOMPLETE, "the client is gone"));
    });
    const running = this.#handle(request, response, controller.signal).finally(() =>
      this.#running.delete(controller),
    );
    this.#running.set(controller, running);
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    const reason = new OsrError(HTTPS_ERRORS.STOPPING, "the role is being stopped");
    for (const controller of this.#running.keys()) controller.abort(reason);
    await Promise.all(this.#running.values());
  }

  async #handle(
    request: IncomingMessage,
    response: ServerResponse,
    signal: AbortSignal,
  ): Promise<void> {
    try {
      if (this.#stopping) throw new OsrError(HTTPS_ERRORS.STOPPING, "the role is being stopped");
      const refusal = this.#isCertificateRequired ? certificateRefusal(request) : undefined;
      if (refusal !== undefined) {
        response.setHeader("connection", "close");
        throw refusal;
      }
      await this.#handler(request, response, signal);
    } catch (error) {
      if (signal.aborted && response.destroyed)
        this.#log.debug("the client left", { reason: messageOf(error) });
      else sendError(response, error, {}, this.#log);
    }
    dropRest(request, this.#limits.unreadBytesMax);
  }
}

/** Drops what is left of a body that the handler did not read; a client that sends more than that is cut off. */
function dropRest(request: IncomingMessage, bytesMax: number): void {
  if (request.complete || request.destroyed) return;
  let bytes = 0;
  request.on("data", (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes > bytesMax) request.destroy();
  });
  request.resume();
}
