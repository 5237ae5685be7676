import type { Log } from "@osr/base/log";
import type { StorageGrant } from "@osr/contracts/site-protocol";
import {
  type CreateOptions,
  type ListOptions,
  type ListPage,
  type ObjectBody,
  type ObjectHead,
  type ObjectStore,
} from "@osr/repository/object-store";

import { type OpenStore, isSignature, openStoreWith } from "../repository/open-store.ts";
import type { AssignedProcessServerConfiguration } from "../site/role-configurations.ts";

/**
 * The storage account as it is granted at the moment. A new grant counts for the next call; those under way end with the one
 * that they began with. The credential is in memory only.
 */
export class GrantedStore implements ObjectStore, Disposable {
  readonly #config: Pick<AssignedProcessServerConfiguration, "proxyUrl" | "uploadBytesPerSecond">;
  readonly #log: Log;
  readonly #opened: OpenStore[] = [];
  #grantText = "";

  constructor(
    config: Pick<AssignedProcessServerConfiguration, "proxyUrl" | "uploadBytesPerSecond">,
    grant: StorageGrant,
    log: Log,
  ) {
    this.#config = config;
    this.#log = log;
    this.renew(grant);
  }

  renew(grant: StorageGrant): void {
    const text = JSON.stringify(grant);
    if (text === this.#grantText) return;
    this.#grantText = text;
    const { endpoint, container, token, authorityPem } = grant;
    const { proxyUrl, uploadBytesPerSecond } = this.#config;
    const credential = { kind: isSignature(token) ? "sas" : "token", text: token } as const;
    const access = {
      endpoint,
      container,
      credential,
      authorityPem,
      ...(proxyUrl === undefined ? {} : { proxyUrl }),
      ...(uploadBytesPerSecond === undefined ? {} : { uploadBytesPerSecond }),
    };
    // Those before keep their few connections until they have been idle: calls may be under way.
    this.#opened.unshift(openStoreWith(access, this.#log));
    this.#log.info("the storage account is granted", {
      endpoint,
      untilUnixMs: grant.expiresUnixMs,
    });
  }

  create(name: string, body: ObjectBody, options?: CreateOptions): Promise<void> {
    return this.#store.create(name, body, options);
  }

  head(name: string, signal?: AbortSignal): Promise<ObjectHead> {
    return this.#store.head(name, signal);
  }

  read(name: string, offset: number, target: Uint8Array, signal?: AbortSignal): Promise<void> {
    return this.#store.read(name, offset, target, signal);
  }

  readStart(name: string, target: Uint8Array, signal?: AbortSignal): Promise<number> {
    return this.#store.readStart(name, target, signal);
  }

  list(prefix: string, options?: ListOptions): Promise<ListPage> {
    return this.#store.list(prefix, options);
  }

  delete(name: string, signal?: AbortSignal): Promise<void> {
    return this.#store.delete(name, signal);
  }

  [Symbol.dispose](): void {
    for (const open of this.#opened) open[Symbol.dispose]();
  }

  get #store(): ObjectStore {
    const [open] = this.#opened;
    if (open === undefined) throw new Error("nothing was granted");
    return open.store;
  }
}
