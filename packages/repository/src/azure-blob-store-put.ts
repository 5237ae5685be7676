import type { ClientRequest } from "node:http";

import { abortable } from "./abortable.ts";
import { exactly } from "./azure-blob-store-body.ts";
import type { BlobUpload } from "./azure-blob-store-container.ts";
import { type DirectOptions, openRequest, refusedBy, replyTo } from "./azure-blob-store-request.ts";
import type { ObjectBody } from "./object-store.ts";

/**
 * Put Blob where there is none. The SDK never says when it is done with a chunk; here each is released then, so that a source
 * sends an object of any length from a few: what it made anew for each had V8 collect in full for every 64 MiB. Throws
 * Refused, the system's error, or an AbortError. What the body fails with is given to `fail` as well, to tell it from those.
 */
export async function putObject(
  name: string,
  body: ObjectBody,
  options: DirectOptions & BlobUpload,
): Promise<void> {
  const { oid, fail } = options;
  const headers = {
    "if-none-match": "*",
    "x-ms-blob-type": "BlockBlob",
    "content-type": "application/octet-stream",
    "content-length": body.sizeBytes,
    ...(oid === undefined ? {} : { "x-ms-meta-oid": oid }),
  };
  const outgoing = openRequest({ path: `/${name}` }, { method: "PUT", headers }, options);
  const reply = replyTo(outgoing);
  const answered = new AbortController();
  const onAnswer = (): void => answered.abort();
  reply.then(onAnswer, onAnswer);
  try {
    await send(body, outgoing, answered.signal);
  } catch (error) {
    // The connection waits for the rest of the body.
    outgoing.destroy();
    if (answered.signal.aborted) throw refusedBy(await reply);
    fail(error);
    throw error;
  }
  const answer = await reply;
  if (answer.statusCode !== 201) throw refusedBy(answer);
  answer.resume();
}

/** Sends each chunk while the next one is fetched. Throws what the body fails with, and once there is an answer. */
async function send(
  body: ObjectBody,
  outgoing: ClientRequest,
  answered: AbortSignal,
): Promise<void> {
  let last: Promise<void> | undefined;
  for await (const chunk of abortable(exactly(body), answered)) {
    await last;
    last = written(outgoing, chunk, answered).then(() => body.release?.(chunk));
    // Met at the next turn.
    last.catch(() => undefined);
  }
  await last;
  outgoing.end();
}

/** Resolves when nobody reads the memory of `chunk` any more. Where the connection breaks, that is the answer. */
function written(outgoing: ClientRequest, chunk: Uint8Array, answered: AbortSignal): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const onAnswer = (): void => reject(answered.reason);
  answered.addEventListener("abort", onAnswer, { once: true });
  outgoing.write(chunk, (error) => {
    if (error) return;
    answered.removeEventListener("abort", onAnswer);
    resolve();
  });
  return promise;
}
