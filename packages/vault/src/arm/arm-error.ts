import type { ErrorInfo } from "@osr/base/errors";
import { OsrError } from "@osr/base/errors";

import type { ArmCode } from "./possible-causes.ts";

/** A refusal in the words of the API. */
export class ArmError extends OsrError {
  readonly status: number;
  /** The code that clients see, in ARM's spelling: `ResourceNotFound`. */
  readonly armCode: ArmCode;

  constructor(
    status: number,
    armCode: ArmCode,
    message: string,
    hint: string,
    details: object = {},
  ) {
    const info: ErrorInfo = { code: armCode, retryable: status === 429 || status === 503, hint };
    super(info, message, { details });
    this.status = status;
    this.armCode = armCode;
  }
}

export function notFound(what: string): ArmError {
  return new ArmError(
    404,
    "ResourceNotFound",
    `${what} was not found`,
    "Check the name; list what there is with GET on the collection.",
  );
}

/** 409 with the operations that are allowed at the moment. */
export function notAllowed(message: string, allowedOperations: readonly string[]): ArmError {
  const allowed = allowedOperations.length === 0 ? "none" : allowedOperations.join(", ");
  return new ArmError(409, "OperationNotAllowed", message, `Allowed at the moment: ${allowed}.`, {
    allowedOperations,
  });
}

/** 400; `path` names the field. */
export function badRequest(path: string, message: string): ArmError {
  return new ArmError(
    400,
    "InvalidParameter",
    `${path}: ${message}`,
    `Correct ${path} and send the request again.`,
    { path },
  );
}
