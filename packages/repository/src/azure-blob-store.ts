import { assert } from "@osr/base/assert";
import { OsrError, hasCode } from "@osr/base/errors";
import type { Scheduler } from "@osr/base/scheduler";
import { KIB, MINUTE_MS, SECOND_MS } from "@osr/base/units";

import type { BlobContainer } from "./azure-blob-store-container.ts";
import { type AzureEndpoint, directAccessOf } from "./azure-blob-store-credential.ts";
import { DirectContainer } from "./azure-blob-store-direct.ts";
import { refusalOf, storeErrorOf } from "./azure-blob-store-errors.ts";
import {
  type CreateOptions,
  LIST_PAGE_MAX,
  type ListOptions,
  type ListPage,
  OBJECT_BYTES_MAX,
  type ObjectBody,
  type ObjectHead,
  type ObjectStore,
  STORE_ERRORS,
  checkObjectName,
  checkObjectPrefix,
  checkOid,
} from "./object-store.ts";

/** Time limit of a call, besides that for its bytes. */
const CALL_MS = MINUTE_MS;
/** The time limit of a transfer grows with its bytes, as if they went at this rate, per second. */
const TRANSFER_BYTES_PER_SECOND_MIN = 128 * KIB;

export type AzureBlobStoreOptions = AzureEndpoint & {
  readonly scheduler: Scheduler;
  /** Instead of CALL_MS. */
  readonly callMs?: number;
};

/**
 * Objects as block blobs of one container: Azure Blob, our own `storage-account` role, Azurite.
 *
 * An object goes up as one conditional Put Blob (`If-None-Match: *`), never in staged blocks: those are shared by all
 * writers of a name, so that two of them would get each other's bytes. Retries are left to a decorator. The agent
 * belongs to the caller.
 */
export class AzureBlobStore implements ObjectStore {
  readonly #container: () => Promise<BlobContainer>;
  readonly #scheduler: Scheduler;
  readonly #callMs: number;

  constructor(options: AzureBlobStoreOptions) {
    this.#container = containerOf(options);
    this.#scheduler = options.scheduler;
    this.#callMs = options.callMs ?? CALL_MS;
  }

  async create(name: string, body: ObjectBody, options: CreateOptions = {}): Promise<void> {
    const { oid, signal } = options;
    checkObjectName(name);
    if (oid !== undefined) checkOid(oid);
    assert(body.sizeBytes <= OBJECT_BYTES_MAX, "an object is at most OBJECT_BYTES_MAX long");
    using limit = this.#limit(signal, body.sizeBytes);
    const fail = (reason: unknown): void => limit.abort(reason);
    try {
      const container = await this.#container();
      await container.put(name, body, { oid, fail }, limit.signal);
    } catch (error) {
      if (limit.signal.aborted) throw limit.signal.reason;
      throw await this.#refusedCreate(error, name, signal);
    }
  }

  async head(name: string, signal?: AbortSignal): Promise<ObjectHead> {
    checkObjectName(name);
    return this.#call(name, signal, 0, (container, limit) => container.head(name, limit));
  }

  async read(
    name: string,
    offset: number,
    target: Uint8Array,
    signal?: AbortSignal,
  ): Promise<void> {
    checkObjectName(name);
    assert(Number.isSafeInteger(offset) && offset >= 0, "an offset is a whole number");
    const bytes = target.byteLength;
    if (bytes === 0) {
      // HTTP has no empty range.
      const { sizeBytes } = await this.head(name, signal);
      if (offset > sizeBytes) throw outside(name, offset);
      return;
    }
    const found = await this.#call(name, signal, bytes, (container, limit) =>
      container.read(name, offset, target, limit),
    );
    if (found.bytes < bytes) throw outside(name, offset + bytes);
  }

  async readStart(name: string, target: Uint8Array, signal?: AbortSignal): Promise<number> {
    checkObjectName(name);
    return this.#call(name, signal, target.byteLength, async (container, limit) => {
      try {
        return (await container.read(name, 0, target, limit)).sizeBytes;
      } catch (error) {
        // An empty object has no first byte.
        if (refusalOf(error)?.status === 416) return 0;
        throw error;
      }
    });
  }

  /**
   * The service's own markers are opaque, while `after` is a name. So each call starts from the name (`startFrom`, which
   * includes it) and drops what is not greater; a service that does not know `startFrom` costs time, not truth.
   */
  async list(prefix: string, options: ListOptions = {}): Promise<ListPage> {
    const { after = "", pageMax = LIST_PAGE_MAX, signal } = options;
    checkObjectPrefix(prefix);
    assert(pageMax >= 1 && pageMax <= LIST_PAGE_MAX, "a page has 1 to LIST_PAGE_MAX objects");
    signal?.throwIfAborted();
    const isWithin = after.startsWith(prefix) && after !== "";
    if (!isWithin && after > prefix) return { objects: [] };
    const startFrom = isWithin ? after : undefined;
    return this.#call(`${prefix}*`, signal, 0, async (container, limit) => {
      for (let marker: string | undefined; ;) {
        const page = await container.page({ prefix, startFrom, marker, pageMax }, limit);
        marker = page.marker === "" ? undefined : page.marker;
        const objects = page.blobs.filter(({ name }) => name > after);
        const last = objects.at(-1);
        if (last !== undefined)
          return marker === undefined ? { objects } : { objects, next: last.name };
        if (marker === undefined) return { objects };
      }
    });
  }

  async delete(name: string, signal?: AbortSignal): Promise<void> {
    checkObjectName(name);
    try {
      await this.#call(name, signal, 0, (container, limit) => container.delete(name, limit));
    } catch (error) {
      if (!hasCode(error, STORE_ERRORS.OBJECT_NOT_FOUND)) throw error;
    }
  }

  /** Within the time for a call and `bytes`; what is thrown becomes the port's error. */
  async #call<T>(
    name: string,
    signal: AbortSignal | undefined,
    bytes: number,
    call: (container: BlobContainer, limit: AbortSignal) => Promise<T>,
  ): Promise<T> {
    using limit = this.#limit(signal, bytes);
    try {
      return await call(await this.#container(), limit.signal);
    } catch (error) {
      if (limit.signal.aborted) throw limit.signal.reason;
      throw storeErrorOf(error, name);
    }
  }

  /**
   * A name that exists is 409 BlobAlreadyExists, but 403 where the credential may create and not overwrite, 412 from some
   * services, and 409 with other codes where an immutability policy holds. The object itself decides.
   */
  async #refusedCreate(
    refused: unknown,
    name: string,
    signal: AbortSignal | undefined,
  ): Promise<unknown> {
    const status = refusalOf(refused)?.status;
    if (status !== 403 && status !== 409 && status !== 412) return storeErrorOf(refused, name);
    const isExisting = await this.head(name, signal).then(
      () => true,
      () => false,
    );
    signal?.throwIfAborted();
    if (!isExisting) return storeErrorOf(refused, name);
    return new OsrError(STORE_ERRORS.OBJECT_EXISTS, `${name} exists`, { cause: refused });
  }

  /** A signal that is aborted with `signal`, or with STORE_UNAVAILABLE when the time for the call and `bytes` is over. */
  #limit(
    signal: AbortSignal | undefined,
    bytes: number,
  ): Disposable & { readonly signal: AbortSignal; abort(reason: unknown): void } {
    signal?.throwIfAborted();
    const controller = new AbortController();
    const onAbort = (): void => controller.abort(signal?.reason);
    signal?.addEventListener("abort", onAbort, { once: true });
    const ms = this.#callMs + (bytes / TRANSFER_BYTES_PER_SECOND_MIN) * SECOND_MS;
    const timer = this.#scheduler.after(ms, () =>
      controller.abort(
        new OsrError(
          STORE_ERRORS.STORE_UNAVAILABLE,
          `the storage account took longer than ${Math.round(ms)} ms`,
        ),
      ),
    );
    return {
      signal: controller.signal,
      abort: (reason) => controller.abort(reason),
      [Symbol.dispose]: () => {
        timer[Symbol.dispose]();
        signal?.removeEventListener("abort", onAbort);
      },
    };
  }
}

/** Microsoft's client is loaded at the first call that needs it. */
function containerOf(options: AzureEndpoint): () => Promise<BlobContainer> {
  const directAccess = directAccessOf(options);
  if (directAccess !== undefined) {
    const direct = new DirectContainer(directAccess, options.agent);
    return () => Promise.resolve(direct);
  }
  let loading: Promise<BlobContainer> | undefined;
  return () =>
    (loading ??= import("./azure-blob-store-sdk.ts").then(
      ({ SdkContainer }) => new SdkContainer(options),
    ));
}

function outside(name: string, end: number): OsrError {
  return new OsrError(STORE_ERRORS.OBJECT_RANGE, `${name} ends before byte ${end}`);
}
