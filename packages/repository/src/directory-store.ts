import { type Stats, closeSync, fstatSync, openSync } from "node:fs";
import { link, readdir, rm, stat, statfs, unlink } from "node:fs/promises";
import { dirname, join } from "node:path";

import { assert } from "@osr/base/assert";
import { OsrError, systemErrorCode } from "@osr/base/errors";
import type { Randomness } from "@osr/base/randomness";
import { MIB } from "@osr/base/units";

import { writeObject } from "./directory-store-body.ts";
import {
  diskErrorOf,
  makeDirectory,
  onDisk,
  readFully,
  syncDirectory,
} from "./directory-store-disk.ts";
import { DirectoryDurability } from "./directory-store-durability.ts";
import { namesBelow } from "./directory-store-list.ts";
import { TRAILER_BYTES, decodeTrailer } from "./directory-store-trailer.ts";
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

/** Space that is never used, in bytes, so that the file system does not come to a standstill. */
const FREE_BYTES_MIN = 64 * MIB;
/** Trailers that are remembered; beyond that all are read again. */
const TRAILERS_MAX = 4096;
/** Files that one list call looks at at once. */
const STATS_AT_ONCE = 64;

export type DirectoryStoreOptions =
  /** For the storage account alone: the directory is made where it is missing, and leftovers of crashes are swept. */
  | {
      readonly access: "write";
      readonly randomness: Randomness;
      readonly freeBytesMin?: number;
    }
  /** For offline tools: nothing is ever changed; the directory must exist (STORE_MISSING). */
  | { readonly access: "read" };

export type StoredHead = ObjectHead & {
  /** When the object was created. */
  readonly createdUnixMs: number;
};

export type StoredPage = Omit<ListPage, "objects"> & { readonly objects: readonly StoredHead[] };

/** An object that is being read. Dispose it. */
export type OpenObject = Disposable & {
  readonly head: StoredHead;
  /** Fills `target` from `offset`, or throws OBJECT_RANGE. */
  read(offset: number, target: Uint8Array): Promise<void>;
};

/** Opens the storage account's directory. Two processes may have it open, but only one should write. */
export async function openDirectoryStore(
  directory: string,
  options: DirectoryStoreOptions,
): Promise<DirectoryStore> {
  const objects = join(directory, "objects");
  const creating = join(directory, "creating");
  if (options.access === "write") {
    await onDisk(makeDirectory(objects));
    await onDisk(makeDirectory(creating));
    // An earlier start may have been killed between making them and this.
    await onDisk(syncDirectory(directory));
    for (const name of await onDisk(readdir(creating))) await onDisk(rm(join(creating, name)));
  } else {
    await stat(objects).catch((cause: unknown) => {
      throw diskErrorOf(cause, STORE_ERRORS.STORE_MISSING);
    });
  }
  return new DirectoryStore(objects, creating, options);
}

/**
 * Objects in a directory, durably. `<directory>/objects/<name>` is an object, `<directory>/creating/<random>` one that is
 * being created.
 *
 * Order of a create: write the temporary file, fsync it, link(2) it to its name, fsync the directory (and before, those
 * above that had to be made), unlink the temporary name. link(2) fails where the name exists, so that exactly one
 * creator wins, and the name never shows part of an object. What a crash leaves in `creating` is swept at the next open.
 *
 * The `oid` is in a trailer of the file itself (directory-store-trailer.ts). A file beside it would need a tie to the
 * winner among several creators, such as the inode's number, which does not survive a copy or a restore of the directory.
 * One file has one link, one fsync, and cannot come apart; it also shows where a file was cut.
 */
export class DirectoryStore implements ObjectStore {
  readonly #objects: string;
  readonly #creating: string;
  readonly #options: DirectoryStoreOptions;
  readonly #durability: DirectoryDurability;
  /** Trailers by file and version: a small read would take half as long again to read them, too. */
  readonly #trailers = new Map<string, { readonly oid?: string }>();
  /** Bytes of the bodies that are on their way, which free space does not show yet. */
  #reservedBytes = 0;

  constructor(objects: string, creating: string, options: DirectoryStoreOptions) {
    this.#objects = objects;
    this.#creating = creating;
    this.#options = options;
    this.#durability = new DirectoryDurability(objects);
  }

  async create(name: string, body: ObjectBody, options: CreateOptions = {}): Promise<void> {
    const { oid, signal } = options;
    checkObjectName(name);
    if (oid !== undefined) checkOid(oid);
    assert(body.sizeBytes <= OBJECT_BYTES_MAX, "an object is at most OBJECT_BYTES_MAX long");
    signal?.throwIfAborted();
    const { randomness, freeBytesMin = FREE_BYTES_MIN } = this.#writeOptions();
    const path = join(this.#objects, name);
    // Most losers come late; they need not send their body.
    await this.#refuseExisting(name, path);
    using _ = await this.#reserve(body.sizeBytes, freeBytesMin);
    const temporary = join(this.#creating, randomness.bytes(16).toString("hex"));
    try {
      await writeObject(temporary, body, options);
      signal?.throwIfAborted();
      await this.#publish(name, path, temporary);
    } finally {
      await onDisk(rm(temporary, { force: true }));
    }
  }

  async head(name: string, signal?: AbortSignal): Promise<StoredHead> {
    using object = await this.openObject(name, signal);
    return object.head;
  }

  async read(
    name: string,
    offset: number,
    target: Uint8Array,
    signal?: AbortSignal,
  ): Promise<void> {
    using file = await this.#open(name, signal);
    await readRange(file, offset, target);
    signal?.throwIfAborted();
  }

  async readStart(name: string, target: Uint8Array, signal?: AbortSignal): Promise<number> {
    using file = await this.#open(name, signal);
    await readRange(file, 0, target.subarray(0, file.sizeBytes));
    signal?.throwIfAborted();
    return file.sizeBytes;
  }

  async list(prefix: string, options: ListOptions = {}): Promise<StoredPage> {
    const { after = "", pageMax = LIST_PAGE_MAX, signal } = options;
    checkObjectPrefix(prefix);
    assert(pageMax >= 1 && pageMax <= LIST_PAGE_MAX, "a page has 1 to LIST_PAGE_MAX objects");
    signal?.throwIfAborted();
    const names: string[] = [];
    let hasMore = false;
    for await (const name of namesBelow(this.#objects, prefix, after)) {
      signal?.throwIfAborted();
      hasMore = names.length === pageMax;
      if (hasMore) break;
      names.push(name);
    }
    const objects: StoredHead[] = [];
    for (let index = 0; index < names.length; index += STATS_AT_ONCE) {
      const some = names.slice(index, index + STATS_AT_ONCE);
      const heads = await Promise.all(some.map((name) => this.#listed(name)));
      objects.push(...heads.filter((head) => head !== undefined));
      signal?.throwIfAborted();
    }
    const last = names.at(-1);
    return hasMore && last !== undefined ? { objects, next: last } : { objects };
  }

  async delete(name: string, signal?: AbortSignal): Promise<void> {
    checkObjectName(name);
    signal?.throwIfAborted();
    this.#writeOptions();
    const path = join(this.#objects, name);
    try {
      await unlink(path);
    } catch (error) {
      const code = systemErrorCode(error);
      // EISDIR: other names go on where this one ends, so that it is none.
      if (code === "ENOENT" || code === "ENOTDIR" || code === "EISDIR") return;
      await onDisk(Promise.reject(error));
    }
    await onDisk(syncDirectory(dirname(path)));
  }

  /** The object with its head, for reading it in pieces. */
  async openObject(name: string, signal?: AbortSignal): Promise<OpenObject> {
    using opening = new DisposableStack();
    const file = opening.use(await this.#open(name, signal));
    const trailer = await this.#trailerOf(file);
    signal?.throwIfAborted();
    opening.move();
    const { sizeBytes, found } = file;
    return {
      head: { name, sizeBytes, createdUnixMs: Math.floor(found.mtimeMs), ...trailer },
      read: (offset, target) => readRange(file, offset, target),
      [Symbol.dispose]: () => file[Symbol.dispose](),
    };
  }

  async #trailerOf({ fd, found, sizeBytes }: OpenFile): Promise<{ readonly oid?: string }> {
    const { ino, size, mtimeMs, ctimeMs } = found;
    const version = `${ino} ${size} ${mtimeMs} ${ctimeMs}`;
    const known = this.#trailers.get(version);
    if (known !== undefined) return known;
    const bytes = Buffer.alloc(TRAILER_BYTES);
    await onDisk(readFully(fd, bytes, sizeBytes));
    const trailer = decodeTrailer(bytes, sizeBytes);
    if (this.#trailers.size >= TRAILERS_MAX) this.#trailers.clear();
    this.#trailers.set(version, trailer);
    return trailer;
  }

  #writeOptions(): DirectoryStoreOptions & { readonly access: "write" } {
    if (this.#options.access === "write") return this.#options;
    throw new OsrError(STORE_ERRORS.STORE_FORBIDDEN, "the directory was opened for reading");
  }

  async #refuseExisting(name: string, path: string): Promise<void> {
    const found = await stat(path).catch(() => undefined);
    if (found === undefined) return;
    if (!found.isFile())
      throw new OsrError(STORE_ERRORS.OBJECT_NAME_INVALID, `names go on after ${name}`);
    await onDisk(this.#durability.confirm(path));
    throw new OsrError(STORE_ERRORS.OBJECT_EXISTS, `${name} exists`);
  }

  async #publish(name: string, path: string, temporary: string): Promise<void> {
    try {
      await this.#durability.publish(path, () => link(temporary, path));
    } catch (error) {
      if (systemErrorCode(error) === "EEXIST") await this.#refuseExisting(name, path);
      if (systemErrorCode(error) === "ENOTDIR")
        throw new OsrError(STORE_ERRORS.OBJECT_NAME_INVALID, `a part of ${name} is an object`);
      await onDisk(Promise.reject(error));
    }
  }

  /** Sets space aside until the file holds the bytes itself. */
  async #reserve(bytes: number, freeBytesMin: number): Promise<Disposable> {
    this.#reservedBytes += bytes;
    const release = { [Symbol.dispose]: () => void (this.#reservedBytes -= bytes) };
    try {
      const { bavail, bsize } = await onDisk(statfs(this.#creating));
      if (bavail * bsize - this.#reservedBytes >= freeBytesMin) return release;
      throw new OsrError(STORE_ERRORS.STORE_FULL, "the storage account's disk is full");
    } catch (error) {
      release[Symbol.dispose]();
      throw error;
    }
  }

  async #open(name: string, signal: AbortSignal | undefined): Promise<OpenFile> {
    checkObjectName(name);
    signal?.throwIfAborted();
    const path = join(this.#objects, name);
    using opening = new DisposableStack();
    const file = opening.use(openFile(name, path));
    if (this.#options.access === "write") await onDisk(this.#durability.confirm(path));
    if (file.sizeBytes < 0)
      throw new OsrError(STORE_ERRORS.OBJECT_DAMAGED, `the file of ${name} was cut`);
    opening.move();
    return file;
  }

  /** Undefined where the object was deleted meanwhile. */
  async #listed(name: string): Promise<StoredHead | undefined> {
    const path = join(this.#objects, name);
    const found = await stat(path).catch(() => undefined);
    if (found === undefined) return undefined;
    if (this.#options.access === "write") await onDisk(this.#durability.confirm(path));
    // A file that was cut is listed, so that whoever checks the store meets it.
    const sizeBytes = Math.max(0, found.size - TRAILER_BYTES);
    return { name, sizeBytes, createdUnixMs: Math.floor(found.mtimeMs) };
  }
}

type OpenFile = Disposable & {
  readonly name: string;
  readonly fd: number;
  readonly found: Stats;
  /** Of the object; below zero where its file was cut. */
  readonly sizeBytes: number;
};

/**
 * Opens the file of an object. Every read of a machine that runs from the storage account does: what the system has in memory
 * of a name takes microseconds, and the way to a thread of the pool and back many times that.
 */
function openFile(name: string, path: string): OpenFile {
  const missing = STORE_ERRORS.OBJECT_NOT_FOUND;
  using opening = new DisposableStack();
  try {
    const fd = opening.adopt(openSync(path, "r"), closeSync);
    const found = fstatSync(fd);
    if (!found.isFile()) throw new OsrError(missing, `${name} does not exist`);
    opening.move();
    const sizeBytes = found.size - TRAILER_BYTES;
    return { name, fd, found, sizeBytes, [Symbol.dispose]: () => closeSync(fd) };
  } catch (cause) {
    throw cause instanceof OsrError ? cause : diskErrorOf(cause, missing);
  }
}

async function readRange(
  { name, fd, sizeBytes }: OpenFile,
  offset: number,
  target: Uint8Array,
): Promise<void> {
  assert(Number.isSafeInteger(offset) && offset >= 0, "an offset is a whole number");
  const isInside = offset + target.byteLength <= sizeBytes;
  if (!isInside || !(await onDisk(readFully(fd, target, offset))))
    throw new OsrError(
      STORE_ERRORS.OBJECT_RANGE,
      `${name} has ${sizeBytes} bytes, not ${offset + target.byteLength}`,
    );
}
