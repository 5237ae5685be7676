import { stat } from "node:fs/promises";
import { createServer } from "node:net";

import { systemErrorCode } from "../errors.ts";

/** Names in the kernel's abstract socket namespace that say which folders hold replicated data, as /proc/net/unix shows them. */
export const DATA_FOLDER_NAME = /@osr-data-(\d+)-(\d+)$/;

/**
 * Takes a folder that holds replicated data (a storage account's, a spool) for this process, until the hold is disposed of or
 * the process ends, however it ends; undefined where another one has it. The hold is a name in the kernel's abstract socket
 * namespace, made from device and inode of the folder, on which nobody is ever answered. An agent on this machine sees by it
 * which disks it must not replicate.
 */
export async function holdDataFolder(folder: string): Promise<AsyncDisposable | undefined> {
  const { dev, ino } = await stat(folder);
  const server = createServer((socket) => socket.destroy());
  const { promise: listening, resolve, reject } = Promise.withResolvers<void>();
  server.once("error", reject);
  server.listen({ path: `\0osr-data-${dev}-${ino}` }, resolve);
  try {
    await listening;
  } catch (cause) {
    if (systemErrorCode(cause) !== "EADDRINUSE") throw cause;
    return undefined;
  }
  server.unref();
  return {
    [Symbol.asyncDispose]: () => new Promise((done) => server.close(() => done())),
  };
}
