import { OsrError } from "@osr/base/errors";
import {
  type CreateOptions,
  type ListOptions,
  type ListPage,
  type ObjectBody,
  type ObjectHead,
  type ObjectStore,
  STORE_ERRORS,
} from "@osr/repository/object-store";

/**
 * What becomes of a create: it fails, fails although it has happened, never answers and heeds its signal, never answers
 * at all, or works.
 */
export type CreateFault = "fails" | "fails-after" | "hangs" | "is-deaf" | "works";

/** A storage account that misbehaves as its test says. */
export class FaultyStore implements ObjectStore {
  readonly #store: ObjectStore;
  /** Asked for every create. */
  fault: (name: string) => CreateFault = () => "works";
  creates = 0;

  constructor(store: ObjectStore) {
    this.#store = store;
  }

  async create(name: string, body: ObjectBody, options: CreateOptions = {}): Promise<void> {
    this.creates += 1;
    const fault = this.fault(name);
    if (fault === "is-deaf") await new Promise(() => undefined);
    if (fault === "hangs")
      await new Promise((_, reject) =>
        options.signal?.addEventListener("abort", () => reject(options.signal?.reason as Error)),
      );
    if (fault !== "fails") await this.#store.create(name, body, options);
    if (fault !== "works") throw new OsrError(STORE_ERRORS.STORE_UNAVAILABLE, "503 as asked for");
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
}
