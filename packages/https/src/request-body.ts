import type { IncomingMessage } from "node:http";

import { OsrError } from "@osr/base/errors";

import { incomplete, takeChunks } from "./body-chunks.ts";
import { HTTPS_ERRORS } from "./https-errors.ts";

/**
 * The whole body of a message. Where its Content-Length is known there is one allocation and one copy. Throws
 * BODY_TOO_LARGE beyond `bytesMax`, before anything is read where the length says so, and BODY_INCOMPLETE where the
 * connection ends first.
 */
export async function readBody(message: IncomingMessage, bytesMax: number): Promise<Buffer> {
  const header = message.headers["content-length"];
  if (header === undefined) return readUnsized(message, bytesMax);
  const sizeBytes = Number(header);
  if (!(sizeBytes <= bytesMax)) throw tooLarge(bytesMax);
  const body = Buffer.allocUnsafe(sizeBytes);
  let filled = 0;
  await takeChunks(message, (chunk) => {
    filled += chunk.copy(body, filled);
  }).ended;
  if (filled !== sizeBytes) throw incomplete();
  return body;
}

async function readUnsized(message: IncomingMessage, bytesMax: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  await takeChunks(message, (chunk) => {
    bytes += chunk.length;
    if (bytes > bytesMax) throw tooLarge(bytesMax);
    chunks.push(Buffer.from(chunk));
  }).ended;
  return Buffer.concat(chunks, bytes);
}

function tooLarge(bytesMax: number): OsrError {
  return new OsrError(HTTPS_ERRORS.BODY_TOO_LARGE, `the body is longer than ${bytesMax} bytes`, {
    details: { bytesMax },
  });
}
