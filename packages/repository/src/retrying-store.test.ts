import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, beforeEach, suite, test } from "node:test";

import { type ErrorInfo, OsrError } from "@osr/base/errors";
import { systemRandomness as randomness } from "@osr/base/platform/system-randomness";
import type { Scheduler } from "@osr/base/scheduler";

import { type DirectoryStore, openDirectoryStore } from "./directory-store.ts";
import { objectStoreContract } from "./object-store.contract.ts";
import { type ObjectStore, STORE_ERRORS, bodyOf, readWhole } from "./object-store.ts";
import { STORE_RETRY_POLICY, retryingStore } from "./retrying-store.ts";

const { STORE_UNAVAILABLE, STORE_FULL, STORE_FORBIDDEN, OBJECT_EXISTS } = STORE_ERRORS;

/** Sleeps for no time, and remembers how long it should have been. */
function fastScheduler(): Scheduler & { readonly slept: number[] } {
  const slept: number[] = [];
  return {
    slept,
    sleep: (ms, signal) => {
      slept.push(ms);
      signal?.throwIfAborted();
      return Promise.resolve();
    },
    after: () => ({ [Symbol.dispose]: () => undefined }),
  };
}

type Fault = { readonly error: ErrorInfo; readonly isAfterEffect?: boolean };

/** A store whose calls fail as scripted, before or after they had their effect. */
function faultyStore(store: ObjectStore): ObjectStore & {
  readonly faults: Map<keyof ObjectStore, Fault[]>;
  calls: number;
} {
  const faults = new Map<keyof ObjectStore, Fault[]>();
  const faulty = async <T>(method: keyof ObjectStore, call: () => Promise<T>): Promise<T> => {
    self.calls += 1;
    const fault = faults.get(method)?.shift();
    const fail = (): never => {
      throw new OsrError(fault?.error ?? STORE_UNAVAILABLE, "planted");
    };
    if (fault !== undefined && fault.isAfterEffect !== true) fail();
    const result = await call();
    if (fault !== undefined) fail();
    return result;
  };
  const self = {
    faults,
    calls: 0,
    create: (...args: Parameters<ObjectStore["create"]>) =>
      faulty("create", () => store.create(...args)),
    head: (...args: Parameters<ObjectStore["head"]>) => faulty("head", () => store.head(...args)),
    read: (...args: Parameters<ObjectStore["read"]>) => faulty("read", () => store.read(...args)),
    readStart: (...args: Parameters<ObjectStore["readStart"]>) =>
      faulty("readStart", () => store.readStart(...args)),
    list: (...args: Parameters<ObjectStore["list"]>) => faulty("list", () => store.list(...args)),
    delete: (...args: Parameters<ObjectStore["delete"]>) =>
      faulty("delete", () => store.delete(...args)),
  };
  return self;
}

async function temporaryStore(): Promise<{ store: DirectoryStore } & AsyncDisposable> {
  const path = await mkdtemp(join(tmpdir(), "osr-retrying-store-"));
  return {
    store: await openDirectoryStore(path, { access: "write", randomness }),
    [Symbol.asyncDispose]: () => rm(path, { recursive: true }),
  };
}

objectStoreContract("retrying store", async () => {
  const { store, ...disposable } = await temporaryStore();
  const policy = STORE_RETRY_POLICY;
  return {
    store: retryingStore(store, { policy, scheduler: fastScheduler(), randomness }),
    ...disposable,
  };
});

suite("retrying store", () => {
  let opened: Awaited<ReturnType<typeof temporaryStore>>;
  let faulty: ReturnType<typeof faultyStore>;
  let scheduler: ReturnType<typeof fastScheduler>;
  let store: ObjectStore;
  let names = 0;
  const fresh = (): string => `n/${(names += 1)}`;

  before(async () => {
    opened = await temporaryStore();
  });
  after(() => opened[Symbol.asyncDispose]());
  beforeEach(() => {
    faulty = faultyStore(opened.store);
    scheduler = fastScheduler();
    store = retryingStore(faulty, {
      policy: { attemptsMax: 4, delayFirstMs: 100, delayMaxMs: 1000 },
      scheduler,
      randomness,
    });
  });

  const coded = (info: ErrorInfo) => (error: unknown) => {
    assert.ok(error instanceof OsrError, String(error));
    assert.equal(error.code, info.code);
    return true;
  };

  test("what is retryable is tried again, with growing pauses, up to the limit", async () => {
    const name = fresh();
    faulty.faults.set("create", [{ error: STORE_UNAVAILABLE }, { error: STORE_FULL }]);
    faulty.faults.set("read", [{ error: STORE_UNAVAILABLE }]);
    faulty.faults.set("list", [{ error: STORE_UNAVAILABLE }]);
    faulty.faults.set("delete", [{ error: STORE_UNAVAILABLE, isAfterEffect: true }]);
    await store.create(name, bodyOf(Buffer.from("x")));
    assert.equal(scheduler.slept.length, 2);
    assert.ok((scheduler.slept[1] ?? 0) >= 100 && (scheduler.slept[0] ?? 0) <= 100);
    assert.equal(String(await readWhole(store, name)), "x");
    assert.equal((await store.list(name)).objects.length, 1);
    await store.delete(name);
    faulty.calls = 0;
    faulty.faults.set(
      "head",
      Array.from({ length: 9 }, () => ({ error: STORE_UNAVAILABLE })),
    );
    await assert.rejects(store.head(name), coded(STORE_UNAVAILABLE));
    assert.equal(faulty.calls, 4);
  });

  test("what is permanent is not tried again", async () => {
    faulty.faults.set("create", [{ error: STORE_FORBIDDEN }]);
    await assert.rejects(store.create(fresh(), bodyOf(Buffer.from("x"))), coded(STORE_FORBIDDEN));
    assert.deepEqual([faulty.calls, scheduler.slept.length], [1, 0]);
  });

  test("a create that had its effect and failed is success, once the object's oid proves it", async () => {
    const name = fresh();
    faulty.faults.set("create", [{ error: STORE_UNAVAILABLE, isAfterEffect: true }]);
    faulty.faults.set("head", [{ error: STORE_UNAVAILABLE }]);
    await store.create(name, bodyOf(Buffer.from("mine")), { oid: "mine" });
    assert.equal(String(await readWhole(store, name)), "mine");
  });

  test("a create that failed before another writer's is OBJECT_EXISTS", async () => {
    const name = fresh();
    await opened.store.create(name, bodyOf(Buffer.from("other")), { oid: "other" });
    faulty.faults.set("create", [{ error: STORE_UNAVAILABLE }]);
    await assert.rejects(
      store.create(name, bodyOf(Buffer.from("mine")), { oid: "mine" }),
      coded(OBJECT_EXISTS),
    );
  });

  test("without an oid nothing proves whose the object is", async () => {
    const name = fresh();
    faulty.faults.set("create", [{ error: STORE_UNAVAILABLE, isAfterEffect: true }]);
    await assert.rejects(store.create(name, bodyOf(Buffer.from("x"))), coded(OBJECT_EXISTS));
  });

  test("a first attempt that meets the name has lost, also with its own oid", async () => {
    const name = fresh();
    await opened.store.create(name, bodyOf(Buffer.from("x")), { oid: "mine" });
    await assert.rejects(
      store.create(name, bodyOf(Buffer.from("x")), { oid: "mine" }),
      coded(OBJECT_EXISTS),
    );
  });
});
