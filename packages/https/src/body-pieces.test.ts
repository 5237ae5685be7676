import assert from "node:assert/strict";
import { type IncomingMessage, createServer, request } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";

import { OsrError } from "@osr/base/errors";
import { KIB } from "@osr/base/units";

import { BodyPieces } from "./body-pieces.ts";

const PIECE_BYTES = 100 * KIB;
const body = Buffer.from(Uint8Array.from({ length: 1_000_003 }, (_, index) => (index * 31) % 251));

/** Sends `sent` as (part of) a body of `body.length` bytes to `handle`; gives what that gives. */
async function received<T>(
  sent: Buffer,
  handle: (message: IncomingMessage) => Promise<T>,
): Promise<T> {
  const { promise, resolve } = Promise.withResolvers<T>();
  const server = createServer((message, reply) =>
    resolve(handle(message).finally(() => void (reply.destroyed ? undefined : reply.end()))),
  );
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  const { port } = server.address() as AddressInfo;
  const headers = { "content-length": body.length };
  const sending = request({ host: "127.0.0.1", port, method: "PUT", headers });
  sending.on("error", () => undefined);
  if (sent.length === body.length) sending.end(sent);
  else sending.write(sent, () => setImmediate(() => sending.destroy()));
  try {
    return await promise;
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

test("a body comes in whole pieces, from the memory of few where they are released", async () => {
  const memories = new Set<ArrayBufferLike>();
  const copy = await received(body, async (message) => {
    const pieces = new BodyPieces(message, PIECE_BYTES);
    const copies: Buffer[] = [];
    for await (const piece of pieces.pieces()) {
      memories.add(piece.buffer);
      copies.push(Buffer.from(piece));
      // The sender goes on meanwhile.
      await new Promise((done) => setImmediate(done));
      pieces.release(piece);
    }
    assert.ok(copies.slice(0, -1).every((piece) => piece.length === PIECE_BYTES));
    return Buffer.concat(copies);
  });
  assert.ok(copy.equals(body));
  assert.ok(memories.size <= 4, `${memories.size} pieces of memory`);
});

test("pieces that are not released are never written to again", async () => {
  const kept = await received(body, async (message) => {
    const pieces = new BodyPieces(message, PIECE_BYTES);
    return Buffer.concat(await Array.fromAsync(pieces.pieces()));
  });
  assert.ok(kept.equals(body));
});

test("a connection that ends within the body is BODY_INCOMPLETE", async () => {
  const part = body.subarray(0, 2.5 * PIECE_BYTES);
  const error = await received(part, async (message) => {
    const pieces = new BodyPieces(message, PIECE_BYTES);
    return Array.fromAsync(pieces.pieces()).catch((failure: unknown) => failure);
  });
  assert.ok(error instanceof OsrError && error.code === "BODY_INCOMPLETE", String(error));
});

test("who leaves early can still answer", async () => {
  const isAlive = await received(body, async (message) => {
    for await (const _ of new BodyPieces(message, PIECE_BYTES).pieces()) break;
    return !message.destroyed;
  });
  assert.ok(isAlive);
});
