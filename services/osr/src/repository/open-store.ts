import { existsSync, readFileSync } from "node:fs";

import { systemRandomness } from "@osr/base/platform/system-randomness";
import { systemScheduler } from "@osr/base/platform/system-scheduler";
import { createHttpsAgent } from "@osr/https/https-agent";
import { AzureBlobStore } from "@osr/repository/azure-blob-store";
import type { AzureCredential } from "@osr/repository/azure-blob-store-credential";
import type { ObjectStore } from "@osr/repository/object-store";
import { STORE_RETRY_POLICY, retryingStore } from "@osr/repository/retrying-store";

import type { StorageAccess } from "../site/role-configurations.ts";

const SOCKETS_MAX = 16;

/** The storage account over the network, with retries; disposing it closes its connections. */
export type OpenStore = Disposable & { readonly store: ObjectStore };

/** Opens the storage account: our own role, or Azure Blob. Throws nothing: what is wrong shows at the first call. */
export function openStore(access: StorageAccess): OpenStore {
  const agent = createHttpsAgent({
    socketsMax: SOCKETS_MAX,
    // Azure and inspecting proxies may only speak 1.2; our own role insists on 1.3 by itself.
    tlsVersionMin: "TLSv1.2",
    ...(access.authority === undefined
      ? {}
      : { authorityPem: readFileSync(access.authority, "utf8") }),
    ...(access.proxyUrl === undefined ? {} : { proxyUrl: access.proxyUrl }),
  });
  const provider = new AzureBlobStore({
    endpoint: access.endpoint,
    container: access.container,
    credential: credentialOf(access.tokenFile),
    agent,
    scheduler: systemScheduler,
  });
  const store = retryingStore(provider, {
    policy: STORE_RETRY_POLICY,
    scheduler: systemScheduler,
    randomness: systemRandomness,
  });
  return { store, [Symbol.dispose]: () => agent.destroy() };
}

/** A shared access signature has a `sig` parameter; all else is a bearer token of our own role. */
function credentialOf(path: string): AzureCredential {
  const isSas = existsSync(path) && /(?:^|[?&])sig=/.test(readFileSync(path, "utf8"));
  return { kind: isSas ? "sas-file" : "token-file", path };
}
