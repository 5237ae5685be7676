import type { IncomingMessage } from "node:http";

import { OsrError } from "@osr/base/errors";

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
  await consume(message, (chunk) => {
    filled += chunk.copy(body, filled);
  });
  if (filled !== sizeBytes) throw incomplete();
  return body;
}

async function readUnsized(message: IncomingMessage, bytesMax: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  await consume(message, (chunk) => {
    bytes += chunk.length;
    if (bytes > bytesMax) throw tooLarge(bytesMax);
    chunks.push(chunk);
  });
  return chunks.length === 1 && chunks[0] !== undefined ? chunks[0] : Buffer.concat(chunks, bytes);
}

/** Feeds every chunk to `take`. Leaves the message alive where `take` throws, so that it can still be answered. */
function consume(message: IncomingMessage, take: (chunk: Buffer) => void): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const onData = (chunk: Buffer): void => {
    try {
      take(chunk);
    } catch (error) {
      message.pause();
      finish();
      reject(error);
    }
  };
  const onEnd = (): void => {
    finish();
    resolve();
  };
  const onBroken = (error?: Error): void => {
    finish();
    reject(incomplete(error));
  };
  const finish = (): void => {
    message.off("data", onData).off("end", onEnd).off("close", onBroken);
    // The listener for errors stays: an error after the body is nobody's concern, but must not stop the process.
  };
  if (message.destroyed && !message.readableEnded) return Promise.reject(incomplete());
  message.on("error", onBroken).on("data", onData).on("end", onEnd).on("close", onBroken);
  return promise;
}

function tooLarge(bytesMax: number): OsrError {
  return new OsrError(HTTPS_ERRORS.BODY_TOO_LARGE, `the body is longer than ${bytesMax} bytes`, {
    details: { bytesMax },
  });
}

function incomplete(cause?: Error): OsrError {
  return new OsrError(HTTPS_ERRORS.BODY_INCOMPLETE, "the connection ended within the body", {
    cause,
  });
}
