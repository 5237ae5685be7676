import type { IncomingMessage } from "node:http";

import { freeBuffer } from "@osr/base/free-buffer";

import type { BlobRange } from "./azure-blob-store-container.ts";
import { blobRangeOf, otherRange } from "./azure-blob-store-range.ts";
import { type DirectOptions, openRequest, refusedBy, replyTo } from "./azure-blob-store-request.ts";

/**
 * Get Blob of up to `target.byteLength` bytes from `offset`, written into `target`.
 * A machine that runs from its recovery point waits for each of these, and the SDK takes several times as long for one as
 * the network and the storage account do. Throws Refused, STORE_REFUSED, the system's error, or an AbortError.
 */
export async function readRange(
  name: string,
  offset: number,
  target: Uint8Array,
  options: DirectOptions,
): Promise<BlobRange> {
  const range = { "x-ms-range": `bytes=${offset}-${offset + target.byteLength - 1}` };
  const outgoing = openRequest({ path: `/${name}` }, { method: "GET", headers: range }, options);
  outgoing.end();
  const reply = await replyTo(outgoing);
  const { headers, statusCode } = reply;
  if (statusCode !== 206 && statusCode !== 200) throw refusedBy(reply);
  const found = blobRangeOf(headers["content-range"], offset, target.byteLength);
  if (found === undefined || found.bytes !== Number(headers["content-length"])) {
    reply.destroy();
    throw otherRange(name);
  }
  await fill(reply, target);
  return found;
}

/** Node fails the reply where it ends early, and gives no more than its Content-Length. */
function fill(reply: IncomingMessage, target: Uint8Array): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  let filled = 0;
  reply.on("data", (chunk: Buffer) => {
    chunk.copy(target, filled);
    filled += chunk.byteLength;
    freeBuffer(chunk);
  });
  reply.on("error", reject);
  reply.on("end", resolve);
  return promise;
}
