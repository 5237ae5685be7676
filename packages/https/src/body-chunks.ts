import type { IncomingMessage } from "node:http";

import { OsrError } from "@osr/base/errors";
import { freeBuffer } from "@osr/base/free-buffer";

import { HTTPS_ERRORS } from "./https-errors.ts";

/** The chunks of a body on their way to who takes them. */
export type BodyChunks = {
  /** Rejects with what `take` throws, and BODY_INCOMPLETE where the connection ends first. */
  readonly ended: Promise<void>;
  /** Takes nothing more; `ended` stays open. */
  stop(): void;
};

/**
 * Feeds every chunk to `take`, which must not keep it. Leaves the message alive where `take` throws or it is stopped, so that
 * it can still be answered.
 */
export function takeChunks(message: IncomingMessage, take: (chunk: Buffer) => void): BodyChunks {
  const { promise: ended, resolve, reject } = Promise.withResolvers<void>();
  /** Each is a buffer of its own, 16 KiB, one for each TLS record. Without freeing them: 100 full collections, with it 40. */
  let last: Buffer | undefined;
  const onData = (chunk: Buffer): void => {
    try {
      take(chunk);
    } catch (error) {
      stop();
      reject(error);
      return;
    }
    // The parser may still stand in the chunk that it has just given.
    if (last !== undefined) freeBuffer(last);
    last = chunk;
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
  const stop = (): void => {
    message.pause();
    finish();
  };
  if (message.destroyed && !message.readableEnded) reject(incomplete());
  else message.on("error", onBroken).on("data", onData).on("end", onEnd).on("close", onBroken);
  return { ended, stop };
}

export function incomplete(cause?: Error): OsrError {
  return new OsrError(HTTPS_ERRORS.BODY_INCOMPLETE, "the connection ended within the body", {
    cause,
  });
}
