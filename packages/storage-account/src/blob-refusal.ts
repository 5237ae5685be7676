import type { ServerResponse } from "node:http";

import { OsrError, defineErrors } from "@osr/base/errors";
import type { Log } from "@osr/base/log";

/** What we refuse with: Azure's codes, their status, and what a person reads. None of them holds outside text or paths. */
const REFUSALS = {
  InvalidUri: [400, "The request URI is not that of a container or blob of this account."],
  InvalidResourceName: [400, "The name holds characters that this account does not allow."],
  InvalidHeaderValue: [400, "The value of a header is not valid."],
  MissingRequiredHeader: [400, "A header that this request needs is missing."],
  UnsupportedHeader: [400, "A header of the request is not supported by this account."],
  UnsupportedQueryParameter: [400, "A query parameter is not supported by this account."],
  InvalidQueryParameterValue: [400, "The value of a query parameter is not valid."],
  OutOfRangeQueryParameterValue: [400, "The value of a query parameter is out of range."],
  IncompleteBody: [400, "The body ended before its Content-Length."],
  OverwriteNotAllowed: [400, "Objects are never overwritten: send If-None-Match: *."],
  NoAuthenticationInformation: [401, "The request has no bearer token."],
  AuthenticationFailed: [403, "The bearer token is not known."],
  AuthorizationPermissionMismatch: [403, "The token's role does not permit this operation."],
  BlobNotFound: [404, "The blob does not exist."],
  ContainerNotFound: [404, "The container does not exist."],
  UnsupportedHttpVerb: [405, "The method is not supported for this resource."],
  BlobAlreadyExists: [409, "The blob exists."],
  ContainerAlreadyExists: [409, "The container exists."],
  MissingContentLengthHeader: [411, "Content-Length is required."],
  ConditionNotMet: [412, "The condition of the request is not met."],
  RequestBodyTooLarge: [413, "The body is longer than this account allows."],
  InvalidRange: [416, "The range is not within the blob."],
  ObjectDamaged: [422, "The stored object is damaged."],
  InternalError: [500, "The request failed; see the log of the storage account."],
  ServerBusy: [503, "The storage account cannot take the request now."],
  InsufficientStorage: [507, "The disk of the storage account is full."],
} as const satisfies Record<string, readonly [number, string]>;

export type RefusalCode = keyof typeof REFUSALS;

const ERRORS = defineErrors({
  BLOB_REQUEST_REFUSED: {
    retryable: false,
    hint: "This account knows the subset of Azure's Blob API that Open Site Recovery uses.",
  },
});

class BlobRequestRefused extends OsrError {
  readonly refusal: RefusalCode;

  constructor(refusal: RefusalCode) {
    super(ERRORS.BLOB_REQUEST_REFUSED, `${refusal}: ${REFUSALS[refusal][1]}`);
    this.refusal = refusal;
  }
}

/** Ends the handling of a request with one of Azure's error codes. */
export function refuse(code: RefusalCode): never {
  throw new BlobRequestRefused(code);
}

/** How the errors of the store and of the connection are told to clients. */
const REFUSAL_OF: Readonly<Record<string, RefusalCode>> = {
  OBJECT_EXISTS: "BlobAlreadyExists",
  OBJECT_NOT_FOUND: "BlobNotFound",
  OBJECT_RANGE: "InvalidRange",
  OBJECT_NAME_INVALID: "InvalidResourceName",
  OBJECT_DAMAGED: "ObjectDamaged",
  OBJECT_BODY_INVALID: "IncompleteBody",
  STORE_FULL: "InsufficientStorage",
  STORE_UNAVAILABLE: "ServerBusy",
  BODY_INCOMPLETE: "IncompleteBody",
  STOPPING: "ServerBusy",
};

/** Answers with Azure's error headers and, but for HEAD, its XML body. */
export function sendRefusal(response: ServerResponse, error: unknown, log: Log): void {
  const code = refusalOf(error);
  if (code === "InternalError" || code === "ObjectDamaged" || code === "ServerBusy")
    log.error("a request failed", { error });
  if (response.headersSent) {
    response.destroy();
    return;
  }
  if (response.destroyed) return;
  const [status, message] = REFUSALS[code];
  const body = Buffer.from(
    `<?xml version="1.0" encoding="utf-8"?><Error><Code>${code}</Code><Message>${message}</Message></Error>`,
  );
  response.setHeader("x-ms-error-code", code);
  response.setHeader("content-type", "application/xml");
  response.setHeader("content-length", body.length);
  if (status === 401) response.setHeader("www-authenticate", 'Bearer realm="storage-account"');
  if (status === 503) response.setHeader("retry-after", "5");
  response.writeHead(status);
  // Node sends no body in reply to HEAD.
  response.end(body);
}

function refusalOf(error: unknown): RefusalCode {
  if (error instanceof BlobRequestRefused) return error.refusal;
  return (error instanceof OsrError ? REFUSAL_OF[error.code] : undefined) ?? "InternalError";
}
