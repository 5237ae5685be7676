import { type ErrorInfo, OsrError } from "@osr/base/errors";
import { type Shape, object, optional, parseJson, text } from "@osr/base/json-shape";
import type { ErrorBody } from "@osr/contracts/error-body";

import { HTTPS_ERRORS } from "./https-errors.ts";

/** Characters of one text field of an error that came over the network. */
const ERROR_CHARS_MAX = 4096;
const RETRYABLE_STATUS: ReadonlySet<number> = new Set([408, 429, 500, 502, 503, 504, 507]);

const anyObject: Shape<object | undefined> = (value) =>
  typeof value === "object" && value !== null ? value : undefined;

const errorBodyShape: Shape<ErrorBody> = object<ErrorBody>({
  error: object<ErrorBody["error"]>({
    code: text(ERROR_CHARS_MAX),
    message: text(ERROR_CHARS_MAX),
    hint: text(ERROR_CHARS_MAX),
    details: optional(anyObject),
  }),
});

export function errorBodyOf(error: OsrError): ErrorBody {
  const { code, message, hint, details } = error;
  const facts = Object.keys(details).length === 0 ? {} : { details };
  return { error: { code, message, hint, ...facts } };
}

/** What `details` of an error that a peer answered hold besides the peer's own. */
type ReplyErrorDetails = {
  readonly status: number;
  /** From `Retry-After`, where the peer sent it in seconds. */
  readonly retryAfterMs?: number;
};

/**
 * The error that a peer answered: with the peer's code, message, hint and details where it sent an ErrorBody. Retryable
 * by its status alone.
 */
export function errorOfReply(reply: {
  readonly status: number;
  readonly body: Buffer;
  readonly retryAfter?: string | undefined;
}): OsrError {
  const { status } = reply;
  const retryable = RETRYABLE_STATUS.has(status);
  const seconds = Number.parseInt(reply.retryAfter ?? "", 10);
  const facts: ReplyErrorDetails = {
    status,
    ...(Number.isSafeInteger(seconds) && seconds >= 0 ? { retryAfterMs: seconds * 1000 } : {}),
  };
  let body: ErrorBody;
  try {
    body = parseJson(reply.body.toString("utf8"), errorBodyShape);
  } catch (cause) {
    const info: ErrorInfo = retryable ? HTTPS_ERRORS.PEER_UNAVAILABLE : HTTPS_ERRORS.REPLY_INVALID;
    return new OsrError(info, `the peer answered ${status} without an error of ours`, {
      cause,
      details: facts,
    });
  }
  const { code, message, hint, details } = body.error;
  return new OsrError({ code, retryable, hint }, message, { details: { ...details, ...facts } });
}
