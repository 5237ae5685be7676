import assert from "node:assert/strict";
import { test } from "node:test";

import { HOUR_MS, MINUTE_MS } from "@osr/base/units";

import { certificateHealth, clockHealth, freezeHealth, missedHealth } from "./machine-health.ts";
import { FREEZE_MS_MAX } from "./quiet-instant.ts";
import { calmWorld, codesOf, nextPoint, stop } from "./testing/calm-world.contract.ts";

const DAY_MS = 24 * HOUR_MS;
const life = { fromUnixMs: 0, untilUnixMs: 30 * DAY_MS };

test("a certificate that was not renewed at two thirds of its life is told, and its end", () => {
  const codeAt = (days: number): string | undefined =>
    certificateHealth(life, days * DAY_MS)[0]?.code;
  assert.equal(codeAt(19.9), undefined);
  assert.equal(codeAt(20), "CERTIFICATE_EXPIRING");
  assert.equal(codeAt(29.9), "CERTIFICATE_EXPIRING");
  assert.equal(codeAt(30), "CERTIFICATE_EXPIRED");
  assert.deepEqual(certificateHealth(undefined, 99 * DAY_MS), []);
});

test("clocks that differ by more than five minutes are told, in both directions", () => {
  assert.deepEqual(clockHealth(5 * MINUTE_MS), []);
  assert.match(clockHealth(DAY_MS)[0]?.message ?? "", /ahead of/);
  const [behind] = clockHealth(-DAY_MS);
  assert.equal(behind?.code, "CLOCK_SKEWED");
  assert.match(behind.message, /behind/);
});

test("a freeze that overshot its limit is told", () => {
  assert.deepEqual(freezeHealth(undefined), []);
  assert.deepEqual(freezeHealth(FREEZE_MS_MAX), []);
  assert.equal(freezeHealth(FREEZE_MS_MAX + 1)[0]?.code, "FREEZE_LONG");
});

test("a missed point comes with its reason's remedy", () => {
  const quiet = missedHealth("NOT_QUIET", "busy");
  assert.deepEqual([quiet.code, quiet.message], ["POINT_MISSED", "NOT_QUIET: busy"]);
  assert.match(quiet.hint, /frozen/);
  assert.match(missedHealth("DISK_UNREADABLE", "").hint, /disk's health/);
  assert.match(missedHealth("WHATEVER", "").hint, /next attempt/);
});

test("clock steps of a day in both directions: points keep their pace, slots grow, and it is told", async () => {
  const world = await calmWorld();
  for (const stepMs of [DAY_MS, -2 * DAY_MS, DAY_MS]) {
    const { openIntervals } = world.service.status().disks[0]!;
    assert.ok(openIntervals <= 4);
    world.time.unixOffsetMs += stepMs;
    const before = world.server.offeredPoints().length;
    const fromMs = world.time.monotonicMs();
    await nextPoint(world);
    await nextPoint(world);
    assert.ok(world.time.monotonicMs() - fromMs <= 3 * 15_000, "points wait for no clock");
    const points = world.server.offeredPoints();
    assert.ok(points.length >= before + 2);
    for (const [index, { slot }] of points.entries())
      assert.ok(slot > (points[index - 1]?.slot ?? -1), "slots grow");
    const isSkewed = world.time.unixOffsetMs !== 0;
    assert.equal(codesOf(world).includes("CLOCK_SKEWED"), isSkewed);
    assert.equal(world.service.status().state, "protected");
  }
  assert.equal(world.service.status().pointsMissed, 0);
  assert.equal(world.server.sessions, 1, "no session was lost");
  assert.deepEqual(world.wrongTags, []);
  await stop(world);
});

test("what is wrong with the process server shows in the agent's status, and is not told back to it", async () => {
  const world = await calmWorld();
  world.server.ownHealth = [{ code: "CACHE_FREE_WARNING", message: "29 %", hint: "Enlarge it." }];
  assert.ok(await world.until(() => codesOf(world).length > 0, 10_000));
  assert.deepEqual(world.service.status().health, world.server.ownHealth);
  await world.until(() => false, 3000);
  assert.deepEqual(world.server.health, []);
  world.server.ownHealth = [];
  assert.ok(await world.until(() => codesOf(world).length === 0, 10_000));
  await stop(world);
});
