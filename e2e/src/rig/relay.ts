import { once } from "node:events";
import { type Server, type Socket, connect, createServer } from "node:net";
import { setTimeout as wait } from "node:timers/promises";

import { OsrError } from "@osr/base/errors";

import { RIG_ERRORS } from "./rig-errors.ts";

/** How a link is: as fast as it goes, or cut (nothing arrives, nobody is told). */
export type LinkState = "well" | "cut";

const POLL_MS = 20;

/** A link on loopback that can be cut: passes TCP connections on to `targetPort`. */
export class Relay implements AsyncDisposable {
  readonly port: number;
  state: LinkState = "well";
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(server: Server, port: number) {
    this.#server = server;
    this.port = port;
  }

  static async start(targetPort: number): Promise<Relay> {
    const server = createServer({ pauseOnConnect: true });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const address = server.address();
    if (typeof address !== "object" || address === null)
      throw new OsrError(RIG_ERRORS.RIG_UNSUPPORTED, "loopback has no free port");
    const relay = new Relay(server, address.port);
    server.on("connection", (socket) => void relay.#join(socket, targetPort));
    return relay;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #join(near: Socket, targetPort: number): Promise<void> {
    this.#sockets.add(near);
    near.on("error", () => undefined);
    await this.#well(near);
    if (near.destroyed) return;
    const far = connect(targetPort, "127.0.0.1");
    for (const socket of [near, far]) {
      this.#sockets.add(socket);
      socket.setNoDelay(true);
      socket.once("close", () => {
        this.#sockets.delete(socket);
        near.destroy();
        far.destroy();
      });
      socket.on("error", () => undefined);
    }
    await Promise.all([this.#pump(near, far), this.#pump(far, near)]);
  }

  async #pump(from: Socket, to: Socket): Promise<void> {
    try {
      for await (const chunk of from as AsyncIterable<Buffer>) {
        await this.#well(from);
        if (!to.write(chunk)) await once(to, "drain");
      }
      to.end();
    } catch {
      from.destroy();
      to.destroy();
    }
  }

  /** Resolves when the link is well, or nobody waits for it any more. */
  async #well(socket: Socket): Promise<void> {
    while (this.state === "cut" && !socket.destroyed) await wait(POLL_MS);
  }
}
