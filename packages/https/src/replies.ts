import type { ServerResponse } from "node:http";

import { OsrError } from "@osr/base/errors";
import type { Log } from "@osr/base/log";

import { errorBodyOf } from "./error-body.ts";
import { HTTPS_ERRORS } from "./https-errors.ts";

/** Tells clients of 503 replies when to come back, in seconds, where the error itself does not say. */
const RETRY_AFTER_SECONDS = 5;

/** Status of the errors that this package throws itself. */
const OWN_STATUS: Readonly<Record<string, number>> = {
  INPUT_INVALID: 400,
  BODY_INCOMPLETE: 400,
  CERTIFICATE_REQUIRED: 401,
  CERTIFICATE_EXPIRED: 401,
  CERTIFICATE_UNTRUSTED: 401,
  CERTIFICATE_REVOKED: 403,
  BODY_TOO_LARGE: 413,
  STOPPING: 503,
};

export function sendJson(response: ServerResponse, status: number, body: unknown): void {
  const bytes = Buffer.from(JSON.stringify(body));
  response.writeHead(status, {
    "content-type": "application/json",
    "content-length": bytes.length,
  });
  response.end(bytes);
}

/**
 * Answers with an ErrorBody. Only errors that `statusOf` or this package knows cross the wire; everything else is a
 * defect: it is logged, and the peer gets 500 INTERNAL without details. `retryAfterMs` in the details of an error
 * becomes `Retry-After`. Where the reply has begun, the connection is cut, so that nobody takes half a reply for a whole one.
 */
export function sendError(
  response: ServerResponse,
  error: unknown,
  statusOf: Readonly<Record<string, number>>,
  log: Log,
): void {
  if (response.headersSent) {
    log.error("the reply failed after it had begun", { error });
    response.destroy();
    return;
  }
  if (response.destroyed) return;
  const status =
    error instanceof OsrError ? (statusOf[error.code] ?? OWN_STATUS[error.code]) : undefined;
  if (status === undefined || !(error instanceof OsrError)) {
    log.error("the request failed", { error });
    sendJson(response, 500, errorBodyOf(new OsrError(HTTPS_ERRORS.INTERNAL, "internal error")));
    return;
  }
  if (status === 503 || status === 429)
    response.setHeader("retry-after", String(retryAfterSeconds(error)));
  sendJson(response, status, errorBodyOf(error));
}

function retryAfterSeconds(error: OsrError): number {
  const ms = "retryAfterMs" in error.details ? error.details.retryAfterMs : undefined;
  return typeof ms === "number" && ms >= 0 ? Math.ceil(ms / 1000) : RETRY_AFTER_SECONDS;
}
