import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { systemRandomness as randomness } from "@osr/base/platform/system-randomness";

import { openDirectoryStore } from "./directory-store.ts";
import { type StoreCall, meteredStore } from "./metered-store.ts";
import { bodyOf } from "./object-store.ts";

test("every call is told with its bytes, its time and its error", async (t) => {
  const path = await mkdtemp(join(tmpdir(), "osr-metered-store-"));
  t.after(() => rm(path, { recursive: true }));
  const calls: StoreCall[] = [];
  let nowMs = 0;
  const store = meteredStore(await openDirectoryStore(path, { access: "write", randomness }), {
    clock: { unixMs: () => 0, monotonicMs: () => (nowMs += 5) },
    onCall: (call) => calls.push(call),
  });
  await store.create("a", bodyOf(Buffer.alloc(1000)), { oid: "x" });
  await assert.rejects(store.create("a", bodyOf(Buffer.alloc(1000))));
  assert.equal((await store.head("a")).oid, "x");
  await store.read("a", 10, Buffer.alloc(20));
  await assert.rejects(store.read("a", 999, Buffer.alloc(20)));
  await store.list("");
  await assert.rejects(store.head("a", AbortSignal.abort()));
  await store.delete("a");
  const durationMs = 5;
  assert.deepEqual(calls, [
    { operation: "create", durationMs, bytes: 1000 },
    { operation: "create", durationMs, bytes: 0, errorCode: "OBJECT_EXISTS" },
    { operation: "head", durationMs, bytes: 0 },
    { operation: "read", durationMs, bytes: 20 },
    { operation: "read", durationMs, bytes: 0, errorCode: "OBJECT_RANGE" },
    { operation: "list", durationMs, bytes: 0 },
    { operation: "head", durationMs, bytes: 0, errorCode: "OTHER" },
    { operation: "delete", durationMs, bytes: 0 },
  ]);
});
