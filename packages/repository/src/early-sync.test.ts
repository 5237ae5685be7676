import assert from "node:assert/strict";
import { test } from "node:test";

import { MIB } from "@osr/base/units";

import { EarlySync } from "./early-sync.ts";

test("a sync begins while others write, one at a time", async () => {
  const under = Promise.withResolvers<void>();
  const calls: string[] = [];
  await using early = new EarlySync({
    datasync: () => (calls.push("datasync"), under.promise),
    sync: async () => void calls.push("sync"),
  });
  early.wrote(31 * MIB);
  assert.deepEqual(calls, []);
  early.wrote(MIB);
  early.wrote(64 * MIB);
  assert.deepEqual(calls, ["datasync"]);
  under.resolve();
  await new Promise((done) => setImmediate(done));
  early.wrote(1);
  assert.deepEqual(calls, ["datasync", "datasync"]);
  await early.complete();
  assert.deepEqual(calls, ["datasync", "datasync", "sync"]);
});

test("a write that an early sync found lost is told at the end, though the last sync succeeds", async () => {
  const lost = Object.assign(new Error("lost"), { code: "EIO" });
  const early = new EarlySync({
    datasync: () => Promise.reject(lost),
    sync: () => Promise.resolve(),
  });
  early.wrote(32 * MIB);
  await early[Symbol.asyncDispose]();
  await assert.rejects(early.complete(), lost);
});
