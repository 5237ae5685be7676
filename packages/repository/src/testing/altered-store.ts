import {
  type CreateOptions,
  type ListOptions,
  type ListPage,
  type ObjectBody,
  type ObjectHead,
  type ObjectStore,
  readWhole,
} from "../object-store.ts";

/** A real store in which somebody has altered, moved or removed objects: what `alter` names is read as it says. */
export class AlteredStore implements ObjectStore {
  readonly #store: ObjectStore;
  readonly #altered = new Map<string, Buffer>();
  readonly #removed = new Set<string>();

  constructor(store: ObjectStore) {
    this.#store = store;
  }

  alter(name: string, bytes: Buffer): void {
    this.#altered.set(name, bytes);
  }

  remove(name: string): void {
    this.#removed.add(name);
  }

  restore(): void {
    this.#altered.clear();
    this.#removed.clear();
  }

  async create(name: string, body: ObjectBody, options?: CreateOptions): Promise<void> {
    return this.#store.create(name, body, options);
  }

  async head(name: string, signal?: AbortSignal): Promise<ObjectHead> {
    const bytes = this.#altered.get(name);
    return bytes === undefined ? this.#store.head(name, signal) : { name, sizeBytes: bytes.length };
  }

  async read(
    name: string,
    offset: number,
    target: Uint8Array,
    signal?: AbortSignal,
  ): Promise<void> {
    const bytes = this.#altered.get(name);
    if (bytes === undefined) return this.#store.read(name, offset, target, signal);
    if (offset + target.length > bytes.length) throw new Error("a read beyond the end");
    target.set(bytes.subarray(offset, offset + target.length));
  }

  async readStart(name: string, target: Uint8Array, signal?: AbortSignal): Promise<number> {
    const bytes = this.#altered.get(name);
    if (bytes === undefined) return this.#store.readStart(name, target, signal);
    target.set(bytes.subarray(0, target.length));
    return bytes.length;
  }

  async list(prefix: string, options?: ListOptions): Promise<ListPage> {
    const page = await this.#store.list(prefix, options);
    const objects = page.objects
      .filter(({ name }) => !this.#removed.has(name))
      .map((object) => ({
        ...object,
        sizeBytes: this.#altered.get(object.name)?.length ?? object.sizeBytes,
      }));
    return { ...page, objects };
  }

  async delete(name: string, signal?: AbortSignal): Promise<void> {
    return this.#store.delete(name, signal);
  }
}

/** All objects of a store in memory, so that thousands of alterations can be tried. */
export async function loadObjects(
  store: ObjectStore,
  names: readonly string[],
): Promise<Map<string, Buffer>> {
  const objects = new Map<string, Buffer>();
  for (const name of names) objects.set(name, await readWhole(store, name));
  return objects;
}
