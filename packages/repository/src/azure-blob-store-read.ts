import type { Agent, IncomingMessage } from "node:http";
import { request as secureRequest } from "node:https";

import { freeBuffer } from "@osr/base/free-buffer";

import { Refused } from "./azure-blob-store-errors.ts";

/** Of the Blob service's protocol: https://learn.microsoft.com/rest/api/storageservices/get-blob */
const API_VERSION = "2021-12-02";

/** How to ask for an object without the SDK. */
export type ReadAccess = {
  /** Of the container. */
  readonly url: string;
  /** A shared access signature without its question mark; empty where there is none. */
  readonly query: string;
  readonly bearerToken?: string | undefined;
};

/**
 * Get Blob of `target.byteLength` bytes from `offset`, written into `target`. False where the object does not have them all.
 * A machine that runs from its recovery point waits for each of these, and the SDK takes several times as long for one as
 * the network and the storage account do. Throws Refused, the system's error, or an AbortError.
 */
export async function readRange(
  name: string,
  offset: number,
  target: Uint8Array,
  options: { readonly access: ReadAccess; readonly agent: Agent; readonly signal: AbortSignal },
): Promise<boolean> {
  const reply = await ask(name, `bytes=${offset}-${offset + target.byteLength - 1}`, options);
  const { headers, statusCode = 0 } = reply;
  if (statusCode !== 206 && statusCode !== 200) {
    reply.resume();
    const code = headers["x-ms-error-code"];
    throw new Refused({ status: statusCode, code: typeof code === "string" ? code : "" });
  }
  const isExact =
    Number(headers["content-length"]) === target.byteLength &&
    headers["content-range"]?.startsWith(`bytes ${offset}-`) === true;
  if (isExact) await fill(reply, target);
  else reply.destroy();
  return isExact;
}

function ask(
  name: string,
  range: string,
  options: { readonly access: ReadAccess; readonly agent: Agent; readonly signal: AbortSignal },
): Promise<IncomingMessage> {
  const { access, agent, signal } = options;
  const { url, query, bearerToken } = access;
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const address = `${url}/${name}${query === "" ? "" : `?${query}`}`;
  const headers = {
    "x-ms-version": API_VERSION,
    "x-ms-range": range,
    ...(bearerToken === undefined ? {} : { authorization: `Bearer ${bearerToken}` }),
  };
  // Not an import: of `node:http`, that makes Node load all that is behind its WebSocket.
  const request = url.startsWith("https://")
    ? secureRequest
    : process.getBuiltinModule("node:http").request;
  const outgoing = request(address, { agent, headers, signal }, resolve);
  outgoing.on("error", reject);
  outgoing.end();
  return promise;
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
