import type { IncomingMessage } from "node:http";

import { freeBuffer } from "@osr/base/free-buffer";

import { type DirectOptions, openRequest, refusedBy, replyTo } from "./azure-blob-store-request.ts";

/**
 * Get Blob of `target.byteLength` bytes from `offset`, written into `target`. False where the object does not have them all.
 * A machine that runs from its recovery point waits for each of these, and the SDK takes several times as long for one as
 * the network and the storage account do. Throws Refused, the system's error, or an AbortError.
 */
export async function readRange(
  name: string,
  offset: number,
  target: Uint8Array,
  options: DirectOptions,
): Promise<boolean> {
  const range = { "x-ms-range": `bytes=${offset}-${offset + target.byteLength - 1}` };
  const outgoing = openRequest({ path: `/${name}` }, { method: "GET", headers: range }, options);
  outgoing.end();
  const reply = await replyTo(outgoing);
  const { headers, statusCode } = reply;
  if (statusCode !== 206 && statusCode !== 200) throw refusedBy(reply);
  const isExact =
    Number(headers["content-length"]) === target.byteLength &&
    headers["content-range"]?.startsWith(`bytes ${offset}-`) === true;
  if (isExact) await fill(reply, target);
  else reply.destroy();
  return isExact;
}

/** Node fails the reply where it ends early, and gives no more than its Content-Length. */
function fill(reply: IncomingMessage, target: Uint8Array): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  let filled = 0;
  reply.on("data", (chunk: Buffer) => {
    target.set(chunk, filled);
    filled += chunk.byteLength;
    freeBuffer(chunk);
  });
  reply.on("error", reject);
  reply.on("end", resolve);
  return promise;
}
