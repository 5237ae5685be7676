import { OsrError, messageOf, systemErrorCode } from "@osr/base/errors";

import { cacheFull } from "./cache-meter.ts";
import { PROCESS_SERVER_ERRORS } from "./process-server-errors.ts";

/** What an agent is told of an error on the way to the spool. */
export function spoolError(cause: unknown): OsrError {
  if (cause instanceof OsrError) return cause;
  const code = systemErrorCode(cause);
  if (code === "ENOSPC" || code === "EDQUOT")
    return cacheFull("the file system of the cache is full", cause);
  return new OsrError(
    PROCESS_SERVER_ERRORS.SPOOL_FAILED,
    `the cache cannot be written (${code ?? messageOf(cause)})`,
    { cause },
  );
}
