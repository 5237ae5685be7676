import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite, test } from "node:test";

import { OsrError } from "@osr/base/errors";
import { systemRandomness as randomness } from "@osr/base/platform/system-randomness";

import { openDirectoryStore } from "./directory-store.ts";
import { limitedStore } from "./limited-store.ts";
import { objectStoreContract } from "./object-store.contract.ts";
import { type ObjectHead, type ObjectStore, bodyOf } from "./object-store.ts";

async function temporaryStore(): Promise<{ inner: ObjectStore } & AsyncDisposable> {
  const path = await mkdtemp(join(tmpdir(), "osr-limited-store-"));
  return {
    inner: await openDirectoryStore(path, { access: "write", randomness }),
    [Symbol.asyncDispose]: () => rm(path, { recursive: true }),
  };
}

objectStoreContract("limited store", async () => {
  const { inner, ...disposable } = await temporaryStore();
  return { store: limitedStore(inner, { callsMax: 2, queueMax: 1000 }), ...disposable };
});

suite("limited store", () => {
  /** A store whose heads wait until they are let go, one after the other. */
  async function gated(): Promise<
    { inner: ObjectStore; begun: string[]; letGo(name: string): void } & AsyncDisposable
  > {
    const opened = await temporaryStore();
    const begun: string[] = [];
    const gates = new Map<string, () => void>();
    const inner: ObjectStore = {
      create: (...args) => opened.inner.create(...args),
      read: (...args) => opened.inner.read(...args),
      readStart: (...args) => opened.inner.readStart(...args),
      list: (...args) => opened.inner.list(...args),
      delete: (...args) => opened.inner.delete(...args),
      head: async (name, signal): Promise<ObjectHead> => {
        begun.push(name);
        await new Promise<void>((resolve) => gates.set(name, resolve));
        return opened.inner.head(name, signal);
      },
    };
    for (const name of ["a", "b", "c", "d"])
      await opened.inner.create(name, bodyOf(Buffer.from(name)));
    const letGo = (name: string): void => gates.get(name)?.();
    return { inner, begun, letGo, [Symbol.asyncDispose]: () => opened[Symbol.asyncDispose]() };
  }

  test("no more calls than allowed are under way, and the others follow in their order", async () => {
    await using gate = await gated();
    const store = limitedStore(gate.inner, { callsMax: 2, queueMax: 2 });
    const calls = ["a", "b", "c", "d"].map((name) => store.head(name));
    await Promise.resolve();
    assert.deepEqual(gate.begun, ["a", "b"]);
    await assert.rejects(store.head("e"), (error) => {
      assert.ok(error instanceof OsrError);
      assert.equal(error.code, "STORE_UNAVAILABLE");
      return true;
    });
    gate.letGo("b");
    await calls[1];
    await new Promise((resolve) => setImmediate(resolve));
    assert.deepEqual(gate.begun, ["a", "b", "c"]);
    gate.letGo("a");
    await calls[0];
    await new Promise((resolve) => setImmediate(resolve));
    assert.deepEqual(gate.begun, ["a", "b", "c", "d"]);
    gate.letGo("c");
    gate.letGo("d");
    await Promise.all(calls);
    await new Promise((resolve) => setImmediate(resolve));
    const more = store.head("a");
    await Promise.resolve();
    assert.deepEqual(gate.begun, ["a", "b", "c", "d", "a"]);
    gate.letGo("a");
    await more;
  });

  test("a call that waits ends with its signal and leaves its place to the next", async () => {
    await using gate = await gated();
    const store = limitedStore(gate.inner, { callsMax: 1, queueMax: 2 });
    const first = store.head("a");
    const controller = new AbortController();
    const reason = new Error("enough");
    const second = store.head("b", controller.signal);
    const third = store.head("c");
    controller.abort(reason);
    await assert.rejects(second, (error) => error === reason);
    gate.letGo("a");
    await first;
    await new Promise((resolve) => setImmediate(resolve));
    assert.deepEqual(gate.begun, ["a", "c"]);
    gate.letGo("c");
    await third;
  });

  test("a call that fails gives its place back", async () => {
    await using opened = await temporaryStore();
    const store = limitedStore(opened.inner, { callsMax: 1, queueMax: 0 });
    for (let round = 0; round < 3; round++) await assert.rejects(store.head("none"));
    await store.create("a", bodyOf(Buffer.from("a")));
  });
});
