import type { IncomingMessage, ServerResponse } from "node:http";

import type { Log } from "@osr/base/log";
import type { Randomness } from "@osr/base/randomness";
import { MIB } from "@osr/base/units";
import { randomUuid } from "@osr/base/uuid";
import { BodyPieces } from "@osr/https/body-pieces";
import type { RequestHandler } from "@osr/https/https-server";
import type { DirectoryStore } from "@osr/repository/directory-store";

import { type TokenFile, isPermitted } from "./access-token.ts";
import { refuse, sendRefusal } from "./blob-refusal.ts";
import { etagOf, listXml, sendObject, setContentHeaders, setObjectHeaders } from "./blob-reply.ts";
import { type BlobRequest, parseBlobRequest } from "./blob-request.ts";

/**
 * Written to the disk at once. Measured, 550 MiB of segments: 1.0 CPU seconds, 2.0 when each chunk of the body was written as
 * it came.
 */
const PIECE_BYTES = MIB;
/** Version of Azure's API that clients without one are answered with. */
const API_VERSION = "2021-12-02";

export type BlobServiceOptions = {
  readonly store: DirectoryStore;
  readonly container: string;
  readonly tokens: TokenFile;
  readonly log: Log;
  readonly randomness: Randomness;
};

/** Answers the subset of Azure's Blob API that our provider uses from a directory store. */
export function blobService(options: BlobServiceOptions): RequestHandler {
  return async (request, response, signal) => {
    setCommonHeaders(request, response, options);
    try {
      // Who nobody knows learns nothing, not even what is wrong with the request.
      const role = await roleOf(request, options.tokens);
      const asked = parseBlobRequest(request, options.container);
      if (!isPermitted(role, asked.permission)) refuse("AuthorizationPermissionMismatch");
      await answer(asked, request, response, signal, options);
    } catch (error) {
      if (signal.aborted && response.destroyed) options.log.debug("a client left", { error });
      else sendRefusal(response, error, options.log);
    }
  };
}

function setCommonHeaders(
  request: IncomingMessage,
  response: ServerResponse,
  options: BlobServiceOptions,
): void {
  const version = String(request.headers["x-ms-version"]);
  response.setHeader("x-ms-version", /^\d{4}-\d{2}-\d{2}$/.test(version) ? version : API_VERSION);
  response.setHeader("x-ms-request-id", randomUuid(options.randomness));
}

async function roleOf(
  request: IncomingMessage,
  tokens: TokenFile,
): Promise<"ingest" | "reader" | "maintainer"> {
  const { authorization } = request.headers;
  if (authorization === undefined) return refuse("NoAuthenticationInformation");
  const [, token] = /^Bearer ([A-Za-z0-9._~+/=-]+)$/i.exec(authorization) ?? [];
  const role = token === undefined ? undefined : await tokens.roleOf(token);
  return role ?? refuse("AuthenticationFailed");
}

async function answer(
  asked: BlobRequest,
  request: IncomingMessage,
  response: ServerResponse,
  signal: AbortSignal,
  options: BlobServiceOptions,
): Promise<void> {
  const { store, container } = options;
  switch (asked.kind) {
    case "put-blob":
      return putBlob(asked, request, response, signal, store);
    case "get-blob": {
      using object = await store.openObject(asked.name, signal);
      checkCondition(asked.ifMatch, etagOf(object.head));
      await sendObject(response, object, asked.range, signal);
      return;
    }
    case "head-blob": {
      const head = await store.head(asked.name, signal);
      checkCondition(asked.ifMatch, etagOf(head));
      setContentHeaders(response, head);
      return void response.writeHead(200, { "content-length": head.sizeBytes }).end();
    }
    case "delete-blob":
      // Azure answers 404 for what is not there.
      await store.head(asked.name, signal);
      await store.delete(asked.name, signal);
      return void response.writeHead(202, { "content-length": 0 }).end();
    case "list-blobs": {
      const { prefix, after, pageMax } = asked;
      const page = await store.list(prefix, { after, pageMax, signal });
      const body = Buffer.from(listXml(container, prefix, page));
      response.setHeader("content-type", "application/xml");
      return void response.writeHead(200, { "content-length": body.length }).end(body);
    }
    case "container-properties":
      return void response.writeHead(200, { "content-length": 0 }).end();
    case "create-container":
      return refuse("ContainerAlreadyExists");
  }
}

async function putBlob(
  asked: BlobRequest & { readonly kind: "put-blob" },
  request: IncomingMessage,
  response: ServerResponse,
  signal: AbortSignal,
  store: DirectoryStore,
): Promise<void> {
  const { name, sizeBytes, oid } = asked;
  // The request outlives its body: where the disk fills up, there is still an answer to send.
  const pieces = new BodyPieces(request, Math.min(sizeBytes, PIECE_BYTES));
  const body = {
    sizeBytes,
    open: () => pieces.pieces(),
    release: (piece: Uint8Array) => pieces.release(piece),
  };
  await store.create(name, body, { signal, ...(oid === undefined ? {} : { oid }) });
  setObjectHeaders(response, await store.head(name));
  response.writeHead(201, { "content-length": 0 }).end();
}

function checkCondition(ifMatch: string | undefined, etag: string): void {
  if (ifMatch !== undefined && ifMatch !== "*" && ifMatch !== etag) refuse("ConditionNotMet");
}
