import type { ServerResponse } from "node:http";

import { OsrError, systemErrorCode } from "@osr/base/errors";
import type { JsonValue } from "@osr/base/json-value";
import type { Log } from "@osr/base/log";

import { isDatabaseAway } from "../database/database-away.ts";
import { ArmError } from "./arm-error.ts";
import { type ArmCode, POSSIBLE_CAUSES, isArmCode } from "./possible-causes.ts";

/** Writes a reply with the headers that every reply has. Nothing happens where the client is gone. */
export function sendReply(
  response: ServerResponse,
  status: number,
  body: JsonValue | undefined,
  headers: Readonly<Record<string, string>> = {},
): void {
  if (response.destroyed || response.headersSent) return;
  const bytes = body === undefined ? Buffer.alloc(0) : Buffer.from(JSON.stringify(body));
  const type = body === undefined ? {} : { "content-type": "application/json; charset=utf-8" };
  response.writeHead(status, {
    "cache-control": "no-cache",
    ...type,
    ...headers,
    ...(status === 204 ? {} : { "content-length": bytes.length }),
  });
  response.end(bytes);
}

/** Any error as one of ours: what nobody has thought of is a defect, logged and answered without details. */
export function armErrorOf(error: unknown, log: Log): ArmError {
  if (error instanceof ArmError) return error;
  if (error instanceof OsrError && isArmCode(error.code) && STATUS_OF[error.code] !== undefined)
    return new ArmError(STATUS_OF[error.code] ?? 500, error.code, error.message, error.hint);
  if (isDatabaseAway(error)) {
    log.warn("the database does not answer", { error });
    return new ArmError(
      503,
      "ServiceUnavailable",
      "the vault's database does not answer at the moment",
      "Send the request again in some seconds.",
      { retryAfterSeconds: 2 },
    );
  }
  if (systemErrorCode(error) === FOREIGN_KEY_VIOLATION)
    return new ArmError(
      409,
      "ResourceInUse",
      "something else uses this",
      "Remove what refers to it first.",
    );
  log.error("a request failed", { error });
  return new ArmError(500, "InternalServerError", "internal error", "Report it with the log.");
}

/** SQLSTATE of deleting what is referred to. */
const FOREIGN_KEY_VIOLATION = "23503";

/** Codes of other packages that a request may end with. */
const STATUS_OF: Readonly<Partial<Record<ArmCode, number>>> = {
  INPUT_INVALID: 400,
  BODY_TOO_LARGE: 413,
  BODY_INCOMPLETE: 400,
  JOB_STATE: 409,
  JOB_NOT_FOUND: 404,
  STOPPING: 503,
  VAULT_STOPPING: 503,
  STORE_UNAVAILABLE: 503,
  REPLICA_HOST_AWAY: 503,
  REPLICA_HOST_STOPPING: 503,
  REPLICA_UNADOPTED: 503,
};

/** `{"error":{…}}` as ARM has it; `details` carries what a program may use. */
export function errorBody(error: ArmError): JsonValue {
  return {
    error: {
      code: error.armCode,
      message: error.message,
      details: [
        {
          code: error.armCode,
          message: error.message,
          possibleCauses: POSSIBLE_CAUSES[error.armCode],
          recommendedAction: error.hint,
          ...error.details,
        },
      ],
    },
  };
}
