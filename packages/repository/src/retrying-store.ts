import { hasCode, isRetryable } from "@osr/base/errors";
import type { Randomness } from "@osr/base/randomness";
import { type RetryPolicy, retried } from "@osr/base/retry";
import type { Scheduler } from "@osr/base/scheduler";
import { MINUTE_MS, SECOND_MS } from "@osr/base/units";

import {
  type CreateOptions,
  type ListOptions,
  type ListPage,
  type ObjectBody,
  type ObjectHead,
  type ObjectStore,
  STORE_ERRORS,
} from "./object-store.ts";

/** For callers that have a person or another process waiting; about two minutes in all. */
export const STORE_RETRY_POLICY: RetryPolicy = {
  attemptsMax: 8,
  delayFirstMs: SECOND_MS / 2,
  delayMaxMs: MINUTE_MS / 2,
};

export type RetryingOptions = {
  readonly policy: RetryPolicy;
  readonly scheduler: Scheduler;
  readonly randomness: Randomness;
};

/**
 * A store that tries again what is retryable.
 *
 * A create that fails so may have had its effect all the same. Where a later attempt then finds the name taken, the
 * object's `oid` decides: ours means that an earlier attempt made it, which is success; without an `oid`, or with another
 * one, it is OBJECT_EXISTS. A create whose first attempt meets the name has lost, whatever the `oid`: that is for the
 * caller to judge.
 */
export function retryingStore(store: ObjectStore, options: RetryingOptions): ObjectStore {
  const again = <T>(task: () => Promise<T>, signal: AbortSignal | undefined): Promise<T> =>
    retried(task, options.policy, { ...options, ...(signal === undefined ? {} : { signal }) });
  return {
    create: (name: string, body: ObjectBody, create: CreateOptions = {}): Promise<void> => {
      let isUnknown = false;
      const attempt = async (): Promise<void> => {
        try {
          await store.create(name, body, create);
        } catch (error) {
          if (isUnknown && hasCode(error, STORE_ERRORS.OBJECT_EXISTS)) {
            const head = await store.head(name, create.signal);
            if (create.oid !== undefined && head.oid === create.oid) return;
          }
          isUnknown ||= isRetryable(error);
          throw error;
        }
      };
      return again(attempt, create.signal);
    },
    head: (name: string, signal?: AbortSignal): Promise<ObjectHead> =>
      again(() => store.head(name, signal), signal),
    read: (name: string, offset: number, target: Uint8Array, signal?: AbortSignal): Promise<void> =>
      again(() => store.read(name, offset, target, signal), signal),
    readStart: (name: string, target: Uint8Array, signal?: AbortSignal): Promise<number> =>
      again(() => store.readStart(name, target, signal), signal),
    list: (prefix: string, list: ListOptions = {}): Promise<ListPage> =>
      again(() => store.list(prefix, list), list.signal),
    delete: (name: string, signal?: AbortSignal): Promise<void> =>
      again(() => store.delete(name, signal), signal),
  };
}
