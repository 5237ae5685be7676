import { existsSync, readFileSync } from "node:fs";

import type { Log } from "@osr/base/log";
import { systemClock } from "@osr/base/platform/system-clock";
import { systemRandomness } from "@osr/base/platform/system-randomness";
import { systemScheduler } from "@osr/base/platform/system-scheduler";
import { createHttpsAgent } from "@osr/https/https-agent";
import { AzureBlobStore } from "@osr/repository/azure-blob-store";
import type { AzureCredential } from "@osr/repository/azure-blob-store-credential";
import { limitedStore } from "@osr/repository/limited-store";
import { meteredStore } from "@osr/repository/metered-store";
import { type ObjectStore, STORE_ERRORS } from "@osr/repository/object-store";
import { STORE_RETRY_POLICY, retryingStore } from "@osr/repository/retrying-store";
import { throttledStore } from "@osr/repository/throttled-store";

import type { StorageAccess } from "../site/role-configurations.ts";

const SOCKETS_MAX = 16;
const QUEUE_MAX = 4096;

/** The storage account over the network, with retries; disposing it closes its connections. */
export type OpenStore = Disposable & { readonly store: ObjectStore };

/** How the storage account is reached, with what proves who we are. */
export type StoreAccess = Pick<
  StorageAccess,
  "endpoint" | "container" | "proxyUrl" | "uploadBytesPerSecond"
> & {
  readonly credential: AzureCredential;
  readonly authorityPem?: string | undefined;
};

/** Opens the storage account: our own role, or Azure Blob. Throws nothing: what is wrong shows at the first call. */
export function openStore(access: StorageAccess, log: Log): OpenStore {
  const { authority, tokenFile, ...rest } = access;
  return openStoreWith(
    {
      ...rest,
      credential: credentialOf(tokenFile),
      ...(authority === undefined ? {} : { authorityPem: readFileSync(authority, "utf8") }),
    },
    log,
  );
}

export function openStoreWith(access: StoreAccess, log: Log): OpenStore {
  const agent = createHttpsAgent({
    socketsMax: SOCKETS_MAX,
    // Azure and inspecting proxies may only speak 1.2; our own role insists on 1.3 by itself.
    tlsVersionMin: "TLSv1.2",
    ...(access.authorityPem === undefined ? {} : { authorityPem: access.authorityPem }),
    ...(access.proxyUrl === undefined ? {} : { proxyUrl: access.proxyUrl }),
  });
  const provider = new AzureBlobStore({
    endpoint: access.endpoint,
    container: access.container,
    credential: access.credential,
    agent,
    scheduler: systemScheduler,
  });
  const store = retryingStore(decorated(provider, access, log), {
    policy: STORE_RETRY_POLICY,
    scheduler: systemScheduler,
    randomness: systemRandomness,
  });
  return { store, [Symbol.dispose]: () => agent.destroy() };
}

/** Below the retries, so that each attempt has its turn, goes at its rate, and is told when it fails. */
function decorated(provider: ObjectStore, access: StoreAccess, log: Log): ObjectStore {
  const told = meteredStore(provider, {
    clock: systemClock,
    onCall: ({ operation, durationMs, bytes, errorCode }) => {
      if (errorCode === STORE_ERRORS.STORE_UNAVAILABLE.code)
        log.warn("the storage account did not answer", { operation, durationMs, bytes });
    },
  });
  const limited = limitedStore(told, { callsMax: SOCKETS_MAX, queueMax: QUEUE_MAX });
  const { uploadBytesPerSecond } = access;
  if (uploadBytesPerSecond === undefined) return limited;
  return throttledStore(limited, {
    uploadBytesPerSecond,
    clock: systemClock,
    scheduler: systemScheduler,
  });
}

/** A shared access signature has a `sig` parameter; all else is a bearer token of our own role. */
function credentialOf(path: string): AzureCredential {
  const isSas = existsSync(path) && isSignature(readFileSync(path, "utf8"));
  return { kind: isSas ? "sas-file" : "token-file", path };
}

/** True for a shared access signature; all else is a bearer token. */
export function isSignature(text: string): boolean {
  return /(?:^|[?&])sig=/.test(text);
}
