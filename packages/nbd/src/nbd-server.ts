import { once } from "node:events";
import { chmod, lstat, rename, rm } from "node:fs/promises";
import { type AddressInfo, type Server, type Socket, connect, createServer } from "node:net";

import type { BlockSource } from "@osr/base/block-source";
import { OsrError, defineErrors, systemErrorCode } from "@osr/base/errors";
import type { Log } from "@osr/base/log";
import type { Scheduler } from "@osr/base/scheduler";

import { type ConnectionContext, serveConnection } from "./nbd-connection.ts";
import { DEFAULT_NBD_LIMITS, type NbdLimits } from "./nbd-limits.ts";
import { ReplyBuffers } from "./reply-buffers.ts";
import type { NbdTls } from "./server-tls.ts";

const ERRORS = defineErrors({
  NBD_ADDRESS_IN_USE: {
    retryable: false,
    hint: "Stop the program that listens there, or choose another address.",
  },
});

export type NbdListen =
  /** An absolute path of at most 100 characters; put it into a directory that only its owner may enter. */
  | { readonly unixSocketPath: string }
  | { readonly host: string; readonly port: number; readonly tls: NbdTls };

export type NbdServerOptions = {
  readonly listen: NbdListen;
  /** What is served, by name. It may grow and shrink while the server runs; open connections keep what they have. */
  readonly exports: ReadonlyMap<string, BlockSource>;
  readonly log: Log;
  readonly scheduler: Scheduler;
  readonly limits?: Partial<NbdLimits>;
};

export type NbdServer = AsyncDisposable & {
  /** The port that it listens on; undefined for a unix socket. */
  readonly port: number | undefined;
  /**
   * Stops listening, hangs up on every client and cancels their reads. When it resolves nothing reads the sources any
   * more, so that they can be disposed; they are not disposed here. May be called more than once.
   */
  close(): Promise<void>;
};

/** Serves block sources over NBD, read-only. Throws NBD_ADDRESS_IN_USE. */
export async function startNbdServer(options: NbdServerOptions): Promise<NbdServer> {
  const { listen, exports, log, scheduler } = options;
  const limits: NbdLimits = { ...DEFAULT_NBD_LIMITS, ...options.limits };
  const context: ConnectionContext = {
    exports,
    tls: "tls" in listen ? listen.tls : undefined,
    buffers: new ReplyBuffers(limits.replyBytesMax),
    limits,
    scheduler,
    log,
  };
  const connections = new Map<Socket, Promise<void>>();
  const server = createServer({ allowHalfOpen: true, noDelay: true, keepAlive: true }, (socket) => {
    const served = serveConnection(socket, context).finally(() => connections.delete(socket));
    connections.set(socket, served);
  });
  server.maxConnections = limits.connectionsMax;
  server.on("drop", () => {
    log.warn("an NBD client was turned away: too many connections", { ...limits });
  });
  const port = await listenOn(server, listen);
  server.on("error", (error) => {
    log.error("the NBD server could not accept a connection", { error });
  });
  let closed: Promise<void> | undefined;
  const close = async (): Promise<void> => {
    const stopped = once(server, "close");
    server.close();
    for (const socket of connections.keys()) socket.destroy();
    await Promise.all(connections.values());
    await stopped;
    if ("unixSocketPath" in listen) await rm(listen.unixSocketPath, { force: true });
  };
  const closeOnce = (): Promise<void> => (closed ??= close());
  return { port, close: closeOnce, [Symbol.asyncDispose]: closeOnce };
}

async function listenOn(server: Server, listen: NbdListen): Promise<number | undefined> {
  if ("tls" in listen) {
    await listening(server, { host: listen.host, port: listen.port });
    return (server.address() as AddressInfo).port;
  }
  const path = listen.unixSocketPath;
  await refuseIfTaken(path);
  // Bound beside its name and moved there when its mode is right: nobody connects in between, and the socket of a
  // server that crashed is replaced.
  const fresh = `${path}.new`;
  await rm(fresh, { force: true });
  await listening(server, { path: fresh });
  await chmod(fresh, 0o600);
  await rename(fresh, path);
  return undefined;
}

async function listening(server: Server, address: object): Promise<void> {
  try {
    server.listen(address);
    await once(server, "listening");
  } catch (cause) {
    if (systemErrorCode(cause) !== "EADDRINUSE") throw cause;
    throw new OsrError(ERRORS.NBD_ADDRESS_IN_USE, `cannot listen: ${JSON.stringify(address)}`, {
      cause,
    });
  }
}

/** Throws where the path is no socket, or somebody answers there. */
async function refuseIfTaken(path: string): Promise<void> {
  const found = await lstat(path).catch(() => undefined);
  if (found === undefined) return;
  const isAlive = found.isSocket() && (await answers(path));
  if (found.isSocket() && !isAlive) return;
  throw new OsrError(ERRORS.NBD_ADDRESS_IN_USE, `something else is at ${path}`);
}

async function answers(path: string): Promise<boolean> {
  const socket = connect(path);
  try {
    await once(socket, "connect");
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}
