import { OsrError, defineErrors } from "@osr/base/errors";

/** Objects in the storage account are at most this long. */
export const OBJECT_BYTES_MAX = 256 * 1024 * 1024;
/**
 * Names: segments of `[A-Za-z0-9._-]`, joined by `/`, none of them `.` or `..`; at most this many characters. No name
 * may go on with a slash where another one ends: a provider may refuse that as OBJECT_NAME_INVALID.
 */
export const OBJECT_NAME_CHARS_MAX = 512;
/** Characters of one segment of a name. */
const NAME_SEGMENT_CHARS_MAX = 255;
/** An `oid` is `[A-Za-z0-9-]`, at most this many characters. */
export const OID_CHARS_MAX = 64;
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
  /** A fresh reader over all bytes, in order. What it has given belongs to the taker: no chunk is written to again, unless it is released. */
  open(): AsyncIterable<Uint8Array>;
  /** Takes a chunk back whose taker is done with it: the source may write to it again. Nobody has to call it. */
  release?(chunk: Uint8Array): void;
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
 * - OBJECT_NOT_FOUND, OBJECT_EXISTS, STORE_FORBIDDEN, STORE_MISSING are permanent; STORE_UNAVAILABLE (network, 429,
 *   500, 503, time limit) and STORE_FULL are retryable.
 * - a body that is not as long as it says creates nothing; the error is the body's own or OBJECT_BODY_INVALID.
 * - a list may leave out `oid`; `head` never does where one was given.
 * - every call may be aborted; then it rejects with the signal's reason.
 */
export interface ObjectStore {
  create(name: string, body: ObjectBody, options?: CreateOptions): Promise<void>;
  head(name: string, signal?: AbortSignal): Promise<ObjectHead>;
  /** Fills `target` with the bytes from `offset`. */
  read(name: string, offset: number, target: Uint8Array, signal?: AbortSignal): Promise<void>;
  /** Fills `target`, which is not empty, from the start of the object as far as that goes; gives the size of the object in bytes. */
  readStart(name: string, target: Uint8Array, signal?: AbortSignal): Promise<number>;
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
  STORE_MISSING: {
    retryable: false,
    hint: "Check the endpoint, the container or the directory of the storage account; it must exist before it is used.",
  },
  STORE_REFUSED: {
    retryable: false,
    hint: "The storage account does not take this kind of request. Compare the endpoint and the versions of both sides.",
  },
  OBJECT_BODY_INVALID: {
    retryable: false,
    hint: "The source of the object changed while it was sent; check the disk of the process server.",
  },
  OBJECT_DAMAGED: {
    retryable: false,
    hint: "The storage account's disk lost data; run `osr repository verify` and check the disk.",
  },
});

const NAME = /^[A-Za-z0-9._-]+(?:\/[A-Za-z0-9._-]+)*$/;
const OID = /^[A-Za-z0-9-]+$/;

/** Throws OBJECT_NAME_INVALID unless `name` is a name as this port allows it. */
export function checkObjectName(name: string): void {
  const isValid =
    name.length <= OBJECT_NAME_CHARS_MAX &&
    NAME.test(name) &&
    name
      .split("/")
      .every((part) => part !== "." && part !== ".." && part.length <= NAME_SEGMENT_CHARS_MAX);
  if (!isValid)
    throw new OsrError(STORE_ERRORS.OBJECT_NAME_INVALID, `${quoted(name)} is not an object's name`);
}

/** Throws OBJECT_NAME_INVALID unless names may start with `prefix`; the empty one is every name's. */
export function checkObjectPrefix(prefix: string): void {
  const cut = prefix.lastIndexOf("/");
  if (cut !== -1) checkObjectName(prefix.slice(0, cut));
  const rest = prefix.slice(cut + 1);
  // `.` and `..` may begin a segment, though they may not be one.
  if (rest !== "") checkObjectName(rest.length < NAME_SEGMENT_CHARS_MAX ? `${rest}0` : rest);
}

/** Throws OBJECT_NAME_INVALID unless `oid` is one. */
export function checkOid(oid: string): void {
  if (oid.length > OID_CHARS_MAX || !OID.test(oid))
    throw new OsrError(STORE_ERRORS.OBJECT_NAME_INVALID, `${quoted(oid)} is not an oid`);
}

/** Outside text in a message: cut, and without control characters. */
function quoted(text: string): string {
  return JSON.stringify(text.slice(0, 80));
}

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
