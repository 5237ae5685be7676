import type { Clock } from "@osr/base/clock";
import type { Scheduler } from "@osr/base/scheduler";

import type { CreateOptions, ObjectBody, ObjectStore } from "./object-store.ts";
import { TokenBucket } from "./throttled-store-bucket.ts";

export type ThrottledOptions = {
  /** Bytes of objects per second, of all calls together; absent: no limit in that direction. */
  readonly uploadBytesPerSecond?: number;
  readonly downloadBytesPerSecond?: number;
  readonly clock: Clock;
  readonly scheduler: Scheduler;
};

/** A pause is worth this share of a second's bytes at once. */
const BURST_SHARE = 1 / 4;

/** A store whose bodies go no faster than a number of bytes per second, so that it leaves room on a shared line. */
export function throttledStore(store: ObjectStore, options: ThrottledOptions): ObjectStore {
  const { uploadBytesPerSecond, downloadBytesPerSecond, clock, scheduler } = options;
  const bucketOf = (bytesPerSecond: number | undefined): TokenBucket | undefined =>
    bytesPerSecond === undefined
      ? undefined
      : new TokenBucket({
          bytesPerSecond,
          burstBytes: bytesPerSecond * BURST_SHARE,
          clock,
          scheduler,
        });
  const up = bucketOf(uploadBytesPerSecond);
  const down = bucketOf(downloadBytesPerSecond);
  return {
    create: (name, body, create) =>
      store.create(name, up === undefined ? body : throttledBody(body, up, create), create),
    read: async (name, offset, target, signal) => {
      await down?.take(target.byteLength, signal);
      await store.read(name, offset, target, signal);
    },
    readStart: async (name, target, signal) => {
      await down?.take(target.byteLength, signal);
      return store.readStart(name, target, signal);
    },
    head: (name, signal) => store.head(name, signal),
    list: (prefix, list) => store.list(prefix, list),
    delete: (name, signal) => store.delete(name, signal),
  };
}

function throttledBody(
  body: ObjectBody,
  bucket: TokenBucket,
  create: CreateOptions | undefined,
): ObjectBody {
  return {
    sizeBytes: body.sizeBytes,
    async *open() {
      for await (const chunk of body.open()) {
        await bucket.take(chunk.byteLength, create?.signal);
        yield chunk;
      }
    },
    release: (chunk) => body.release?.(chunk),
  };
}
