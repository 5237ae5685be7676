import assert from "node:assert/strict";
import { test } from "node:test";

import { uuid } from "@osr/base/uuid";

import { Session, SessionTable } from "./session-table.ts";

const machine = uuid("00000000-0000-4000-8000-00000000000a");
const open = (table: SessionTable<string>, epoch: number, by: Promise<string>) =>
  table.open(new Session(machine, epoch), () => by);

test("the newest epoch wins and older ones are refused", async () => {
  const table = new SessionTable<string>();
  await open(table, 3, Promise.resolve("three"));
  assert.equal(table.current(machine, 3).grant, "three");
  await assert.rejects(open(table, 3, Promise.resolve("")), {
    code: "EPOCH_STALE",
    details: { newestEpoch: 3 },
  });
  await open(table, 4, Promise.resolve("four"));
  assert.throws(() => table.current(machine, 3), { code: "SESSION_REPLACED" });
});

test("an older session is replaced before the newer one is granted", async () => {
  const table = new SessionTable<string>();
  await open(table, 1, Promise.resolve("one"));
  const slow = Promise.withResolvers<string>();
  const second = open(table, 2, slow.promise);
  assert.throws(() => table.current(machine, 1), { code: "SESSION_REPLACED" });
  const third = open(table, 3, Promise.resolve("three"));
  slow.resolve("two");
  await assert.rejects(second, { code: "SESSION_REPLACED" });
  assert.equal((await third).grant, "three");
  assert.throws(() => table.current(machine, 2), { code: "SESSION_REPLACED" });
});

test("an epoch whose opening failed may be used again", async () => {
  const table = new SessionTable<string>();
  await assert.rejects(open(table, 5, Promise.reject(new Error("store"))), /store/);
  assert.throws(() => table.current(machine, 5), { code: "SESSION_REPLACED" });
  assert.equal((await open(table, 5, Promise.resolve("five"))).grant, "five");
});
