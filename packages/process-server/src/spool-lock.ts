import { OsrError } from "@osr/base/errors";
import { holdDataFolder } from "@osr/base/platform/data-folder";

import { PROCESS_SERVER_ERRORS } from "./process-server-errors.ts";

/** Takes the spool for this process until the lock is disposed of or the process ends. Throws SPOOL_IN_USE. */
export async function lockSpool(folder: string): Promise<AsyncDisposable> {
  const held = await holdDataFolder(folder);
  if (held !== undefined) return held;
  throw new OsrError(
    PROCESS_SERVER_ERRORS.SPOOL_IN_USE,
    `another process server uses the cache folder ${folder}`,
  );
}
