import { mkdir } from "node:fs/promises";

import { OsrError, defineErrors } from "@osr/base/errors";
import type { Log } from "@osr/base/log";
import { holdDataFolder } from "@osr/base/platform/data-folder";
import type { Randomness } from "@osr/base/randomness";
import type { Scheduler } from "@osr/base/scheduler";
import type { Service } from "@osr/base/service";
import { type HttpsServerLimits, type ServerTls, startHttpsServer } from "@osr/https/https-server";
import { openDirectoryStore } from "@osr/repository/directory-store";
import { OBJECT_BYTES_MAX } from "@osr/repository/object-store";

import { TokenFile } from "./access-token.ts";
import { blobService } from "./blob-service.ts";

const ERRORS = defineErrors({
  STORAGE_FOLDER_IN_USE: {
    retryable: false,
    hint: "Stop the other storage account, or choose another directory.",
  },
});

/** The one container of the account: `https://host:port/osr/<name>`. */
export const STORAGE_CONTAINER = "osr";

export type StorageAccountOptions = {
  /** Where the objects are kept; made where it is missing. No other role opens it. */
  readonly directory: string;
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
  readonly tls: ServerTls;
  /** See encodeTokens. Read again when it changes. */
  readonly tokensFile: string;
  /** Space of the disk that is never used; 64 MiB where absent. */
  readonly freeBytesMin?: number;
  readonly limits?: Partial<HttpsServerLimits>;
  readonly log: Log;
  readonly scheduler: Scheduler;
  readonly randomness: Randomness;
};

export type StorageAccount = Service & {
  readonly port: number;
  replaceCertificate(tls: ServerTls): void;
};

/**
 * The embedded storage account: serves a directory, durably, over HTTPS, with the subset of Azure's Blob API that our
 * Azure provider uses, and tokens per role. It listens when this resolves; `run` then lasts until `stop`. Throws where
 * the tokens file is not good, the port is taken, or another one serves the directory (STORAGE_FOLDER_IN_USE).
 */
export async function createStorageAccount(
  options: StorageAccountOptions,
): Promise<StorageAccount> {
  const { directory, host, port, tls, log, scheduler, randomness, freeBytesMin } = options;
  const tokens = new TokenFile(options.tokensFile, log);
  await tokens.load();
  await mkdir(directory, { recursive: true });
  await using starting = new AsyncDisposableStack();
  starting.use(await hold(directory));
  const store = await openDirectoryStore(directory, {
    access: "write",
    randomness,
    ...(freeBytesMin === undefined ? {} : { freeBytesMin }),
  });
  const server = await startHttpsServer({
    host,
    port,
    tls,
    log,
    scheduler,
    handler: blobService({ store, container: STORAGE_CONTAINER, tokens, log, randomness }),
    // A loser's body is taken in to its end, so that it reads the 409 and not a broken connection.
    limits: { unreadBytesMax: OBJECT_BYTES_MAX, ...options.limits },
  });
  log.info("the storage account listens", { host, port: server.port, directory });
  const { promise: stopped, resolve } = Promise.withResolvers<void>();
  const held = starting.move();
  return {
    port: server.port,
    replaceCertificate: (renewed) => server.replaceCertificate(renewed),
    run: () => stopped,
    stop: async () => {
      await server.close();
      await held.disposeAsync();
      resolve();
    },
  };
}

/** One storage account serves a directory; agents on this machine see by it that its disk is not to be replicated. */
async function hold(directory: string): Promise<AsyncDisposable> {
  const held = await holdDataFolder(directory);
  if (held !== undefined) return held;
  throw new OsrError(ERRORS.STORAGE_FOLDER_IN_USE, `another one serves ${directory}`);
}
