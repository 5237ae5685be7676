import assert from "node:assert/strict";
import { test } from "node:test";

import { OsrError } from "@osr/base/errors";
import { MIB, MINUTE_MS } from "@osr/base/units";
import { HTTPS_ERRORS } from "@osr/https/https-errors";

import {
  BIG,
  calmWorld,
  codesOf,
  lastReasons,
  nextPoint,
  stop,
  upload,
} from "./testing/calm-world.contract.ts";

test("a machine whose process server is gone moves to the next one, and only what was never vaulted is sent again", async () => {
  const world = await calmWorld(BIG);
  world.machine.calm();
  await nextPoint(world);
  assert.equal(world.service.status().processServer, "first");
  world.server.dataBytes = 0;
  world.server.deadAddresses.add("first");
  world.machine.writeBlocks(0, 100);
  await world.until(() => world.service.status().processServer === "second", 90_000);
  await nextPoint(world);
  assert.equal(world.server.address, "second");
  const { disks, missedReasons } = world.service.status();
  for (const { lastResync } of disks) assert.equal(lastResync, undefined, "nothing is compared");
  assert.ok(world.server.dataBytes < 200 * 4096, String(world.server.dataBytes));
  assert.ok((missedReasons["PROCESS_SERVER_UNREACHABLE"] ?? 0) >= 2, JSON.stringify(missedReasons));
  assert.deepEqual(world.wrongTags, []);
  // It stays where it is well, though the first one is back.
  world.server.deadAddresses.clear();
  await world.until(() => upload(world), 180_000);
  assert.equal(world.service.status().processServer, "second");
  assert.equal(world.service.status().state, "protected");
  await stop(world);
});

test("a machine stays with a process server that cannot reach the storage account, and says what it says", async () => {
  const world = await calmWorld();
  await nextPoint(world);
  const { sessions } = world.server;
  world.server.ownHealth = [
    { code: "STORE_UNAVAILABLE", message: "503", hint: "It is tried again." },
  ];
  const end = world.time.monotonicMs() + 10 * MINUTE_MS;
  // Nothing is vaulted meanwhile.
  await world.until(() => world.time.monotonicMs() > end, 11 * MINUTE_MS);
  assert.ok(codesOf(world).includes("STORE_UNAVAILABLE"));
  assert.equal(world.service.status().processServer, "first");
  assert.equal(world.server.sessions, sessions);
  world.server.ownHealth = [];
  await nextPoint(world);
  assert.deepEqual(world.wrongTags, []);
  assert.ok(await world.until(() => !codesOf(world).includes("STORE_UNAVAILABLE"), 30_000));
  await stop(world);
});

test("a certificate that is not accepted is told by its own name, and replication goes on when it is", async () => {
  const world = await calmWorld(BIG);
  await nextPoint(world);
  world.server.dataBytes = 0;
  for (const info of [
    HTTPS_ERRORS.CERTIFICATE_EXPIRED,
    HTTPS_ERRORS.CERTIFICATE_REVOKED,
    HTTPS_ERRORS.CERTIFICATE_UNTRUSTED,
    HTTPS_ERRORS.PEER_UNTRUSTED,
  ]) {
    world.server.refusal = new OsrError(info, "as asked for");
    assert.ok(await world.until(() => codesOf(world).includes(info.code), 90_000), info.code);
    const told = world.service.status().health.find(({ code }) => code === info.code);
    assert.equal(told?.hint, info.hint);
  }
  world.server.refusal = undefined;
  await nextPoint(world);
  assert.deepEqual(lastReasons(world), [undefined, undefined], "nothing is compared");
  assert.ok(world.server.dataBytes < MIB, String(world.server.dataBytes));
  assert.deepEqual(world.wrongTags, []);
  await stop(world);
});

test("a process server that another one has fenced costs a new session, not the disk", async () => {
  const world = await calmWorld();
  const { sessions } = world.server;
  world.server.address = "second";
  await nextPoint(world);
  assert.ok(world.server.sessions > sessions);
  assert.equal(world.server.address, "first");
  assert.equal(world.service.status().state, "protected");
  assert.deepEqual(world.wrongTags, []);
  await stop(world);
});
