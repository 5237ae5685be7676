import { stat } from "node:fs/promises";
import { createServer } from "node:net";

import { OsrError, systemErrorCode } from "@osr/base/errors";

import { PROCESS_SERVER_ERRORS } from "./process-server-errors.ts";

/**
 * Takes the spool for this process until the lock is disposed of or the process ends, however it ends. The lock is a name
 * in the kernel's abstract socket namespace, made from the identity of the folder; nobody is ever answered on it. Throws
 * SPOOL_IN_USE.
 */
export async function lockSpool(folder: string): Promise<AsyncDisposable> {
  const { dev, ino } = await stat(folder);
  const server = createServer((socket) => socket.destroy());
  const { promise: listening, resolve, reject } = Promise.withResolvers<void>();
  server.once("error", reject);
  server.listen({ path: `\0osr-spool-${dev}-${ino}` }, resolve);
  try {
    await listening;
  } catch (cause) {
    if (systemErrorCode(cause) !== "EADDRINUSE") throw cause;
    throw new OsrError(
      PROCESS_SERVER_ERRORS.SPOOL_IN_USE,
      `another process server uses the cache folder ${folder}`,
      { cause },
    );
  }
  server.unref();
  return {
    [Symbol.asyncDispose]: () => new Promise((done) => server.close(() => done())),
  };
}
