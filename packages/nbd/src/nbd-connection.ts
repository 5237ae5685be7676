import { setMaxListeners } from "node:events";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";

import type { BlockSource } from "@osr/base/block-source";
import { hasCode } from "@osr/base/errors";
import type { Log } from "@osr/base/log";
import type { Scheduler } from "@osr/base/scheduler";

import type { NbdLimits } from "./nbd-limits.ts";
import { NAME_BYTES_MAX, OPTIONS, OPTION_BYTES_MAX, OPTION_REPLIES } from "./nbd-protocol.ts";
import {
  CLIENT_FLAGS_BYTES,
  OPTION_HEADER_BYTES,
  decodeOptionHeader,
  encodeGreeting,
  encodeOptionReply,
} from "./negotiation-codec.ts";
import { type Agreement, Negotiation } from "./negotiation.ts";
import type { ReplyBuffers } from "./reply-buffers.ts";
import { type NbdTls, secured } from "./server-tls.ts";
import { SOCKET_ERRORS, SocketReader } from "./socket-reader.ts";
import { Transmission } from "./transmission.ts";

export type ConnectionContext = {
  readonly exports: ReadonlyMap<string, BlockSource>;
  /** Present: the connection must be secured before anything is told. */
  readonly tls: NbdTls | undefined;
  readonly buffers: ReplyBuffers;
  readonly limits: NbdLimits;
  readonly scheduler: Scheduler;
  readonly log: Log;
};

type Negotiated = {
  readonly stream: Duplex;
  readonly agreement: Agreement;
  readonly received: Buffer;
};

/** Serves one client from greeting to goodbye. Never rejects. When it resolves, nothing reads the source for it. */
export async function serveConnection(socket: Socket, context: ConnectionContext): Promise<void> {
  const gone = new AbortController();
  // Each read that waits listens on it.
  setMaxListeners(0, gone.signal);
  socket.once("close", () => {
    gone.abort();
  });
  // Always followed by "close", where it is dealt with.
  socket.on("error", () => undefined);
  try {
    const negotiated = await negotiateInTime(socket, context);
    if (negotiated === undefined) return;
    const { stream, agreement, received } = negotiated;
    const log = context.log.child({ exportName: agreement.exportName });
    const { buffers, limits, scheduler } = context;
    await new Transmission(stream, agreement, {
      buffers,
      limits,
      scheduler,
      log,
      signal: gone.signal,
    }).run(received);
  } catch (error) {
    if (!hasCode(error, SOCKET_ERRORS.NBD_CLIENT_GONE))
      context.log.warn("an NBD connection failed and is closed", { error });
  } finally {
    socket.destroy();
  }
}

async function negotiateInTime(
  socket: Socket,
  context: ConnectionContext,
): Promise<Negotiated | undefined> {
  const deadline = context.scheduler.after(context.limits.handshakeTimeoutMs, () => {
    context.log.warn("an NBD client did not finish the handshake in time");
    socket.destroy();
  });
  try {
    return await negotiate(socket, context);
  } finally {
    deadline[Symbol.dispose]();
  }
}

/** Undefined where the connection is to be closed. */
async function negotiate(
  socket: Socket,
  context: ConnectionContext,
): Promise<Negotiated | undefined> {
  const negotiation = new Negotiation(context.exports, { tlsRequired: context.tls !== undefined });
  let stream: Duplex = socket;
  let reader = new SocketReader(stream);
  stream.write(encodeGreeting());
  const flags = await reader.read(CLIENT_FLAGS_BYTES);
  if (!negotiation.acceptClientFlags(flags.readUInt32BE(0))) return undefined;
  for (;;) {
    const step = await nextStep(reader, negotiation);
    if (step.next === "drop") return undefined;
    if (step.next === "tls" && context.tls !== undefined) {
      // Whatever came in clear before the handshake was not sent by the client that we are about to know.
      if (reader.detach().length > 0) {
        context.log.warn("an NBD client sent data before its TLS handshake; it is dropped");
        return undefined;
      }
      socket.write(step.reply);
      stream = await secured(socket, context.tls);
      stream.on("error", () => undefined);
      reader = new SocketReader(stream);
      negotiation.secured();
      continue;
    }
    if (step.next === "transmit") {
      stream.write(step.reply);
      return { stream, agreement: step.agreement, received: reader.detach() };
    }
    await writeAll(stream, step.reply);
    if (step.next === "end") return undefined;
  }
}

async function nextStep(
  reader: SocketReader,
  negotiation: Negotiation,
): Promise<ReturnType<Negotiation["option"]>> {
  const header = decodeOptionHeader(await reader.read(OPTION_HEADER_BYTES));
  if (header === undefined) return { next: "drop", reply: Buffer.alloc(0) };
  const { option, dataBytes } = header;
  const dataBytesMax = option === OPTIONS.EXPORT_NAME ? NAME_BYTES_MAX : OPTION_BYTES_MAX;
  if (dataBytes > dataBytesMax)
    return { next: "end", reply: encodeOptionReply(option, OPTION_REPLIES.TOO_BIG) };
  return negotiation.option(option, await reader.read(dataBytes));
}

/** Waits until the bytes have left, so that a client that only sends cannot pile up answers. */
function writeAll(stream: Duplex, bytes: Buffer): Promise<void> {
  return new Promise((resolve) => {
    // An error is followed by "close", which the next read reports.
    stream.write(bytes, () => {
      resolve();
    });
  });
}
