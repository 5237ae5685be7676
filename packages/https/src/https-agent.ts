import { Agent, type RequestOptions, request as secureRequest } from "node:https";
import type { Duplex } from "node:stream";
import {
  type ConnectionOptions,
  type PeerCertificate,
  type SecureContext,
  checkServerIdentity,
  connect,
  createSecureContext,
} from "node:tls";

import { OsrError } from "@osr/base/errors";
import { MINUTE_MS } from "@osr/base/units";
import type { Uuid } from "@osr/base/uuid";
import { type CertificateRole, certificateNameOf } from "@osr/contracts/certificate-name";

import { HTTPS_ERRORS } from "./https-errors.ts";

/** A connection on which nothing moves for this long is given up. */
const SOCKET_IDLE_MS = 2 * MINUTE_MS;

export type ClientIdentity = { readonly certificatePem: string; readonly privateKeyPem: string };

export type HttpsAgentOptions = {
  /** CA bundle that the server's certificate must chain to; absent: the well-known authorities of Node. */
  readonly authorityPem?: string;
  /** Our certificate, where the server wants one. */
  readonly identity?: ClientIdentity;
  /**
   * Who the server must be by its certificate, beside its address: without it, any role of the site could stand in for any
   * other one.
   */
  readonly peer?: { readonly role: CertificateRole; readonly id?: Uuid } | undefined;
  /** Connections at once; further requests wait for a free one. */
  readonly socketsMax: number;
  /** `http://[user:password@]host:port` or `https://…`: every connection is tunnelled through it with CONNECT. */
  readonly proxyUrl?: string;
  /** CA bundle of an `https://` proxy; absent: the well-known authorities. */
  readonly proxyAuthorityPem?: string;
  /** Lowest version that is accepted; our own roles speak 1.3, some clouds and their inspecting proxies only 1.2. */
  readonly tlsVersionMin: "TLSv1.3" | "TLSv1.2";
  readonly socketIdleMs?: number;
};

type ConnectionCallback = (error: Error | null, socket?: Duplex) => void;

/**
 * Keep-alive connections with a CA bundle, a certificate and a proxy: everything that a connection of ours may need, in
 * one place, for our own client and for the SDKs that accept a Node agent.
 */
export function createHttpsAgent(options: HttpsAgentOptions): TunnellingAgent {
  return new TunnellingAgent(options);
}

/** See createHttpsAgent. */
export class TunnellingAgent extends Agent {
  readonly #options: HttpsAgentOptions;
  /** Made for the first connection: Node would read the certificates again for every one. */
  #context: SecureContext | undefined;

  constructor(options: HttpsAgentOptions) {
    super({
      keepAlive: true,
      maxSockets: options.socketsMax,
      minVersion: options.tlsVersionMin,
      ...(options.authorityPem === undefined ? {} : { ca: options.authorityPem }),
      ...(options.identity === undefined ? {} : tlsIdentity(options.identity)),
      ...(options.peer === undefined ? {} : { checkServerIdentity: serverCheck(options.peer) }),
    });
    this.#options = options;
  }

  /** New connections show the new certificate; those that are open go on. */
  replaceIdentity(identity: ClientIdentity): void {
    Object.assign(this.options, tlsIdentity(identity));
    this.#context = undefined;
  }

  override createConnection(
    options: RequestOptions,
    callback?: (error: Error | null, socket: Duplex) => void,
  ): Duplex | null | undefined {
    const { proxyUrl } = this.#options;
    if (proxyUrl === undefined) return this.#secured(options);
    // Node's own type says that there is always a socket; where there is an error, there is none.
    const done = callback as ConnectionCallback | undefined;
    openTunnel(new URL(proxyUrl), options, this.#options, (error, socket) =>
      error === null ? done?.(null, this.#secured(options, socket)) : done?.(error),
    );
    return undefined;
  }

  #secured(options: RequestOptions, tunnel?: Duplex): Duplex {
    const { socketIdleMs = SOCKET_IDLE_MS } = this.#options;
    const over = tunnel === undefined ? {} : { socket: tunnel };
    const secureContext = (this.#context ??= createSecureContext(this.options));
    const socket = connect({ ...(options as ConnectionOptions), ...over, secureContext });
    socket.setTimeout(socketIdleMs, () =>
      socket.destroy(
        new OsrError(HTTPS_ERRORS.PEER_UNAVAILABLE, `nothing moved for ${socketIdleMs} ms`),
      ),
    );
    return socket;
  }
}

function tlsIdentity({ certificatePem, privateKeyPem }: ClientIdentity): {
  readonly cert: string;
  readonly key: string;
} {
  return { cert: certificatePem, key: privateKeyPem };
}

function serverCheck(
  peer: NonNullable<HttpsAgentOptions["peer"]>,
): (host: string, certificate: PeerCertificate) => Error | undefined {
  return (host, certificate) => {
    const name = certificateNameOf(certificate.subjectaltname);
    const isPeer = name?.role === peer.role && (peer.id ?? name.id) === name.id;
    if (isPeer) return checkServerIdentity(host, certificate);
    return new OsrError(
      HTTPS_ERRORS.PEER_UNTRUSTED,
      `${host} is not the ${peer.role} ${peer.id ?? ""} by its certificate`,
    );
  };
}

/** Asks the proxy for a stream to `target`. */
function openTunnel(
  proxy: URL,
  target: RequestOptions,
  options: HttpsAgentOptions,
  done: ConnectionCallback,
): void {
  const authority = `${target.host}:${target.port}`;
  const credentials = `${decodeURIComponent(proxy.username)}:${decodeURIComponent(proxy.password)}`;
  const isSecure = proxy.protocol === "https:";
  const common = {
    method: "CONNECT",
    host: proxy.hostname.replace(/^\[|\]$/g, ""),
    port: proxy.port === "" ? (isSecure ? 443 : 80) : proxy.port,
    path: authority,
    agent: false,
    timeout: options.socketIdleMs ?? SOCKET_IDLE_MS,
    headers: {
      host: authority,
      ...(proxy.username === ""
        ? {}
        : { "proxy-authorization": `Basic ${Buffer.from(credentials).toString("base64")}` }),
    },
  };
  const ca = options.proxyAuthorityPem === undefined ? {} : { ca: options.proxyAuthorityPem };
  const request = isSecure ? secureRequest({ ...common, ...ca }) : plainHttp().request(common);
  let isAnswered = false;
  const refuse = (message: string): void => {
    if (isAnswered) return;
    isAnswered = true;
    request.destroy();
    done(new OsrError(HTTPS_ERRORS.PEER_UNAVAILABLE, `proxy ${proxy.host}: ${message}`));
  };
  request.once("connect", (reply, socket) => {
    if (reply.statusCode !== 200) return refuse(`answered ${reply.statusCode} for ${authority}`);
    isAnswered = true;
    socket.setTimeout(0);
    done(null, socket);
  });
  request.once("timeout", () => refuse("did not answer in time"));
  request.on("error", (error) => refuse(error.message));
  request.end();
}

/**
 * Not an import: of `node:http`, that makes Node load all that is behind its WebSocket, which costs every role 5 MiB and
 * some milliseconds.
 */
function plainHttp(): typeof import("node:http") {
  return process.getBuiltinModule("node:http");
}
