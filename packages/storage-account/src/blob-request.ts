import type { IncomingMessage } from "node:http";

import {
  LIST_PAGE_MAX,
  OBJECT_BYTES_MAX,
  checkObjectPrefix,
  checkOid,
} from "@osr/repository/object-store";

import type { Permission } from "./access-token.ts";
import { refuse } from "./blob-refusal.ts";

/** What a client asks for. */
export type BlobRequest = { readonly permission: Permission } & (
  | {
      readonly kind: "put-blob";
      readonly name: string;
      readonly sizeBytes: number;
      readonly oid?: string;
    }
  | {
      readonly kind: "get-blob" | "head-blob";
      readonly name: string;
      readonly range?: ByteRange;
      readonly ifMatch?: string;
    }
  | { readonly kind: "delete-blob"; readonly name: string }
  | {
      readonly kind: "list-blobs";
      readonly prefix: string;
      readonly after: string;
      readonly pageMax: number;
    }
  | { readonly kind: "container-properties" }
  | { readonly kind: "create-container" }
);

/** `last` is the last byte, absent where the range goes to the end. */
export type ByteRange = { readonly first: number; readonly last?: number };

/** Headers of Azure that mean something here or may be ignored; any other could mean something that is not done. */
const KNOWN_HEADERS: ReadonlySet<string> = new Set([
  "x-ms-version",
  "x-ms-date",
  "x-ms-client-request-id",
  "x-ms-return-client-request-id",
  "x-ms-blob-type",
  "x-ms-meta-oid",
  "x-ms-range",
]);
/** Conditions and checksums that are not done must not be passed over. */
const REFUSED_HEADERS = [
  "if-modified-since",
  "if-unmodified-since",
  "content-md5",
  "content-encoding",
] as const;

const RANGE = /^bytes=(\d{1,15})-(\d{1,15})?$/;

/**
 * Reads the subset of Azure's Blob API that our provider uses. Everything else is refused rather than passed over, since a
 * client that believes that it was heard is worse off than one that was not served. Names are left to the store to judge.
 */
export function parseBlobRequest(request: IncomingMessage, container: string): BlobRequest {
  const { path, query } = splitUrl(request.url ?? "");
  checkHeaders(request);
  const slash = path.indexOf("/");
  const requested = slash === -1 ? path : path.slice(0, slash);
  if (requested === "") return refuse("InvalidUri");
  if (requested !== container) return refuse("ContainerNotFound");
  if (slash === -1) return containerRequest(request, query);
  const name = path.slice(slash + 1);
  checkParameters(query, []);
  return blobRequest(request, name);
}

function splitUrl(url: string): { path: string; query: URLSearchParams } {
  const mark = url.indexOf("?");
  const encoded = mark === -1 ? url : url.slice(0, mark);
  if (!encoded.startsWith("/")) return refuse("InvalidUri");
  try {
    return {
      path: decodeURIComponent(encoded.slice(1)),
      query: new URLSearchParams(mark === -1 ? "" : url.slice(mark + 1)),
    };
  } catch {
    return refuse("InvalidUri");
  }
}

function checkHeaders(request: IncomingMessage): void {
  for (const header of Object.keys(request.headers))
    if (header.startsWith("x-ms-") && !KNOWN_HEADERS.has(header)) refuse("UnsupportedHeader");
  for (const header of REFUSED_HEADERS)
    if (request.headers[header] !== undefined) refuse("UnsupportedHeader");
}

function checkParameters(query: URLSearchParams, known: readonly string[]): void {
  for (const key of query.keys())
    if (key !== "timeout" && !known.includes(key)) refuse("UnsupportedQueryParameter");
}

function containerRequest(request: IncomingMessage, query: URLSearchParams): BlobRequest {
  if (query.get("restype") !== "container") return refuse("UnsupportedQueryParameter");
  if (request.method === "GET" && query.get("comp") === "list") return listRequest(query);
  checkParameters(query, ["restype"]);
  if (request.method === "PUT") return { kind: "create-container", permission: "delete" };
  if (request.method === "GET" || request.method === "HEAD")
    return { kind: "container-properties", permission: "read" };
  return refuse("UnsupportedHttpVerb");
}

function listRequest(query: URLSearchParams): BlobRequest {
  checkParameters(query, ["restype", "comp", "prefix", "marker", "startFrom", "maxresults"]);
  const prefix = query.get("prefix") ?? "";
  try {
    checkObjectPrefix(prefix);
  } catch {
    refuse("InvalidQueryParameterValue");
  }
  const marker = query.get("marker") ?? "";
  const from = justBefore(query.get("startFrom") ?? "");
  const results = query.get("maxresults") ?? String(LIST_PAGE_MAX);
  if (!/^[1-9]\d{0,8}$/.test(results)) refuse("OutOfRangeQueryParameterValue");
  return {
    kind: "list-blobs",
    permission: "list",
    prefix,
    after: marker > from ? marker : from,
    pageMax: Math.min(Number(results), LIST_PAGE_MAX),
  };
}

/**
 * A text that lies between `name` and every possible name before it: `startFrom` includes its name, the store's `after`
 * does not. A tilde is greater than everything in a name.
 */
function justBefore(name: string): string {
  if (name === "") return "";
  const last = name.charCodeAt(name.length - 1);
  return `${name.slice(0, -1)}${last === 0 ? "" : String.fromCharCode(last - 1)}~`;
}

function blobRequest(request: IncomingMessage, name: string): BlobRequest {
  const { method, headers } = request;
  if (method === "PUT") return putRequest(request, name);
  if (headers["if-none-match"] !== undefined) return refuse("UnsupportedHeader");
  const ifMatch = headers["if-match"];
  if (method === "DELETE") {
    if (ifMatch !== undefined) return refuse("UnsupportedHeader");
    return { kind: "delete-blob", permission: "delete", name };
  }
  if (method !== "GET" && method !== "HEAD") return refuse("UnsupportedHttpVerb");
  const condition = ifMatch === undefined ? {} : { ifMatch };
  if (method === "HEAD") return { kind: "head-blob", permission: "read", name, ...condition };
  const range = headers["x-ms-range"] ?? headers.range;
  return {
    kind: "get-blob",
    permission: "read",
    name,
    ...condition,
    ...(range === undefined ? {} : { range: parseRange(String(range)) }),
  };
}

function parseRange(text: string): ByteRange {
  const [, first, last] = RANGE.exec(text) ?? refuse("InvalidHeaderValue");
  if (last === undefined) return { first: Number(first) };
  if (Number(last) < Number(first)) return refuse("InvalidRange");
  return { first: Number(first), last: Number(last) };
}

function putRequest(request: IncomingMessage, name: string): BlobRequest {
  const { headers } = request;
  if (headers["x-ms-blob-type"] === undefined) return refuse("MissingRequiredHeader");
  if (headers["x-ms-blob-type"] !== "BlockBlob") return refuse("InvalidHeaderValue");
  if (headers["if-none-match"] !== "*") return refuse("OverwriteNotAllowed");
  if (headers["if-match"] !== undefined) return refuse("UnsupportedHeader");
  const length = headers["content-length"];
  if (length === undefined) return refuse("MissingContentLengthHeader");
  const sizeBytes = Number(length);
  if (!(sizeBytes <= OBJECT_BYTES_MAX)) return refuse("RequestBodyTooLarge");
  const oid = headers["x-ms-meta-oid"];
  if (oid === undefined) return { kind: "put-blob", permission: "create", name, sizeBytes };
  try {
    checkOid(String(oid));
  } catch {
    refuse("InvalidHeaderValue");
  }
  return { kind: "put-blob", permission: "create", name, sizeBytes, oid: String(oid) };
}
