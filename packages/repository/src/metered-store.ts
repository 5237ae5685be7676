import type { Clock } from "@osr/base/clock";
import { OsrError } from "@osr/base/errors";

import type { ObjectBody, ObjectStore } from "./object-store.ts";

type StoreOperation = "create" | "head" | "read" | "list" | "delete";

/** One call of a store that has ended. */
export type StoreCall = {
  readonly operation: StoreOperation;
  readonly durationMs: number;
  /** Bytes of bodies that were handed to the store or filled by it, also where the call failed. */
  readonly bytes: number;
  /** Code of the error, `OTHER` where it is not ours, such as an abort. Absent: success. */
  readonly errorCode?: string;
};

/** A store that tells `onCall` of every call, for counters. */
export function meteredStore(
  store: ObjectStore,
  options: { readonly clock: Clock; readonly onCall: (call: StoreCall) => void },
): ObjectStore {
  const { clock, onCall } = options;
  const metered = async <T>(
    operation: StoreOperation,
    call: () => Promise<T>,
    bytesOf: (isDone: boolean) => number = () => 0,
  ): Promise<T> => {
    const startMs = clock.monotonicMs();
    const tell = (isDone: boolean, failure?: { readonly errorCode: string }): void =>
      onCall({
        operation,
        durationMs: clock.monotonicMs() - startMs,
        bytes: bytesOf(isDone),
        ...failure,
      });
    try {
      const result = await call();
      tell(true);
      return result;
    } catch (error) {
      tell(false, { errorCode: error instanceof OsrError ? error.code : "OTHER" });
      throw error;
    }
  };
  return {
    create: (name, body, create) => {
      const counted = new CountedBody(body);
      return metered(
        "create",
        () => store.create(name, counted, create),
        () => counted.bytes,
      );
    },
    head: (name, signal) => metered("head", () => store.head(name, signal)),
    read: (name, offset, target, signal) =>
      metered(
        "read",
        () => store.read(name, offset, target, signal),
        (isDone) => (isDone ? target.byteLength : 0),
      ),
    readStart: (name, target, signal) =>
      metered(
        "read",
        () => store.readStart(name, target, signal),
        (isDone) => (isDone ? target.byteLength : 0),
      ),
    list: (prefix, list) => metered("list", () => store.list(prefix, list)),
    delete: (name, signal) => metered("delete", () => store.delete(name, signal)),
  };
}

class CountedBody implements ObjectBody {
  readonly sizeBytes: number;
  readonly #body: ObjectBody;
  bytes = 0;

  constructor(body: ObjectBody) {
    this.sizeBytes = body.sizeBytes;
    this.#body = body;
  }

  async *open(): AsyncGenerator<Uint8Array> {
    for await (const chunk of this.#body.open()) {
      this.bytes += chunk.byteLength;
      yield chunk;
    }
  }

  release(chunk: Uint8Array): void {
    this.#body.release?.(chunk);
  }
}
