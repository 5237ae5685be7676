import type { Agent, ClientRequest, IncomingMessage, OutgoingHttpHeaders } from "node:http";
import { request as secureRequest } from "node:https";

import { Refused } from "./azure-blob-store-errors.ts";

/** Of the Blob service's protocol: https://learn.microsoft.com/rest/api/storageservices/blob-service-rest-api */
const API_VERSION = "2021-12-02";

/** How to ask for an object without the SDK. */
export type DirectAccess = {
  /** Of the container. */
  readonly url: string;
  /** A shared access signature without its question mark; empty where there is none. */
  readonly query: string;
  readonly bearerToken?: string | undefined;
};

export type DirectOptions = {
  readonly access: DirectAccess;
  readonly agent: Agent;
  readonly signal: AbortSignal;
};

/** What a request is about: below the container, where an object begins with a slash. */
type RequestTarget = { readonly path: string; readonly parameters?: URLSearchParams };

type RequestKind = {
  readonly method: "GET" | "PUT" | "HEAD" | "DELETE";
  readonly headers: OutgoingHttpHeaders;
};

/** A request past the SDK. Its body and its end are the caller's. */
export function openRequest(
  { path, parameters }: RequestTarget,
  { method, headers }: RequestKind,
  { access, agent, signal }: DirectOptions,
): ClientRequest {
  const { url, query, bearerToken } = access;
  const queries = [String(parameters ?? ""), query].filter((part) => part !== "");
  const address = `${url}${path}${queries.length === 0 ? "" : `?${queries.join("&")}`}`;
  const common = {
    "x-ms-version": API_VERSION,
    ...(bearerToken === undefined ? {} : { authorization: `Bearer ${bearerToken}` }),
  };
  // Not an import: of `node:http`, that makes Node load all that is behind its WebSocket.
  const request = url.startsWith("https://")
    ? secureRequest
    : process.getBuiltinModule("node:http").request;
  return request(address, { method, agent, signal, headers: { ...common, ...headers } });
}

/** Rejects with the system's error or an AbortError. */
export function replyTo(outgoing: ClientRequest): Promise<IncomingMessage> {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  outgoing.on("response", resolve).on("error", reject);
  return promise;
}

/** The refusal that a reply is. */
export function refusedBy(reply: IncomingMessage): Refused {
  reply.resume();
  const code = reply.headers["x-ms-error-code"];
  const status = reply.statusCode ?? 0;
  return new Refused({ status, code: typeof code === "string" ? code : "" });
}
