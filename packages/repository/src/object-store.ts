import { defineErrors } from "@osr/base/errors";

/** Objects in the storage account are at most this long. */
export const OBJECT_BYTES_MAX = 256 * 1024 * 1024;
/** Names: segments of `[A-Za-z0-9._-]`, joined by `/`, none of them `.` or `..`; at most this many characters. */
export const OBJECT_NAME_CHARS_MAX = 512;
/** Objects in one page of a list. */
export const LIST_PAGE_MAX = 5000;

export type ObjectHead = {
  readonly name: string;
  readonly sizeBytes: number;
  /** `oid` as it was given at the creation. */
  readonly oid?: string;
};

/** Where the bytes of a new object come from; asked again for every attempt. */
export type ObjectBody = {
  readonly sizeBytes: number;
  /** A fresh reader over all bytes, in order. */
  open(): AsyncIterable<Uint8Array>;
};

export type ListPage = {
  /** Ascending by name, in byte order. */
  readonly objects: readonly ObjectHead[];
  /** Give it as `after` to go on; absent at the end. */
  readonly next?: string;
};

/**
 * The storage account. The law for every provider and every fake:
 * - `create` is atomic create-if-absent: of any number of callers with one name exactly one succeeds, and no reader
 *   ever sees part of an object. A loser gets OBJECT_EXISTS, always, also where the service says 403 for it.
 *   When it fails otherwise, the object may exist or appear later.
 * - objects never change. `read` gives the bytes of [offset, offset + target length) or throws; beyond the end: INPUT error
 *   OBJECT_RANGE.
 * - what was created is seen by every later call of anybody.
 * - `delete` of what does not exist is success.
 * - OBJECT_NOT_FOUND, OBJECT_EXISTS, STORE_FORBIDDEN are permanent; STORE_UNAVAILABLE (network, 429, 500, 503, time
 *   limit) and STORE_FULL are retryable.
 * - every call may be aborted; then it rejects with the signal's reason.
 */
export interface ObjectStore {
  create(name: string, body: ObjectBody, options?: CreateOptions): Promise<void>;
  head(name: string, signal?: AbortSignal): Promise<ObjectHead>;
  /** Fills `target` with the bytes from `offset`. */
  read(name: string, offset: number, target: Uint8Array, signal?: AbortSignal): Promise<void>;
  /** Objects whose name starts with `prefix` and is greater than `after`. */
  list(prefix: string, options?: ListOptions): Promise<ListPage>;
  delete(name: string, signal?: AbortSignal): Promise<void>;
}

export type CreateOptions = { readonly oid?: string; readonly signal?: AbortSignal };
export type ListOptions = {
  readonly after?: string;
  /** At most LIST_PAGE_MAX, the default. */
  readonly pageMax?: number;
  readonly signal?: AbortSignal;
};

export const STORE_ERRORS = defineErrors({
  OBJECT_EXISTS: {
    retryable: false,
    hint: "Another writer has created the object; read it to see whose it is.",
  },
  OBJECT_NOT_FOUND: {
    retryable: false,
    hint: "Check the storage account and the vault id; run `osr repository verify`.",
  },
  OBJECT_RANGE: {
    retryable: false,
    hint: "The object is shorter than expected; run `osr repository verify`.",
  },
  OBJECT_NAME_INVALID: {
    retryable: false,
    hint: "Use letters, digits, dots, hyphens and slashes.",
  },
  STORE_FORBIDDEN: {
    retryable: false,
    hint: "Check the token and its role: ingest may create, read and list; reader may read and list; maintainer may also delete.",
  },
  STORE_UNAVAILABLE: {
    retryable: true,
    hint: "Check the network, the proxy and the health of the storage account; it is tried again.",
  },
  STORE_FULL: { retryable: true, hint: "Add space to the storage account." },
});

/** A body that is already in memory. */
export function bodyOf(bytes: Uint8Array): ObjectBody {
  return {
    sizeBytes: bytes.byteLength,
    // oxlint-disable-next-line typescript/require-await -- the port is asynchronous
    async *open() {
      yield bytes;
    },
  };
}

/** Every object with `prefix`, page by page. */
export async function* listAll(
  store: ObjectStore,
  prefix: string,
  signal?: AbortSignal,
): AsyncGenerator<ObjectHead> {
  let after: string | undefined;
  do {
    const page = await store.list(prefix, {
      ...(after === undefined ? {} : { after }),
      ...(signal === undefined ? {} : { signal }),
    });
    yield* page.objects;
    after = page.next;
  } while (after !== undefined);
}

/** All bytes of a small object. */
export async function readWhole(
  store: ObjectStore,
  name: string,
  signal?: AbortSignal,
): Promise<Buffer> {
  const { sizeBytes } = await store.head(name, signal);
  const bytes = Buffer.alloc(sizeBytes);
  await store.read(name, 0, bytes, signal);
  return bytes;
}
