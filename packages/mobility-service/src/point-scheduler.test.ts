import assert from "node:assert/strict";
import { test } from "node:test";

import { PointScheduler } from "./point-scheduler.ts";

function scheduler(): PointScheduler {
  const points = new PointScheduler({ intervalSeconds: 60 });
  points.start(1000);
  return points;
}

test("points are due at a steady rate from the start, however long each one takes", () => {
  const points = scheduler();
  assert.equal(points.dueMs, 1000);
  points.made(4000);
  assert.equal(points.dueMs, 61_000);
  points.made(61_010);
  assert.equal(points.dueMs, 121_000);
  assert.equal(points.missedCount, 0);
});

test("a missed point is tried again soon and counted once", () => {
  const points = scheduler();
  points.miss("NOT_QUIET", 2000);
  assert.equal(points.dueMs, 17_000);
  points.miss("NOT_QUIET", 17_000);
  assert.equal(points.dueMs, 32_000);
  points.made(32_500);
  assert.equal(points.dueMs, 61_000);
  assert.deepEqual([...points.missed], [["NOT_QUIET", 1]]);
});

test("every regular time of an outage counts as a missed point", () => {
  const points = scheduler();
  points.made(1000);
  points.miss("SESSION_LOST", 61_000 + 3 * 60_000);
  assert.equal(points.missedCount, 4);
  points.miss("SESSION_LOST", points.dueMs);
  assert.equal(points.missedCount, 4);
});

test("nothing is due or missed before the first copy", () => {
  const points = new PointScheduler({ intervalSeconds: 60 });
  points.skip("SESSION_LOST", 1e9);
  assert.equal(points.isStarted, false);
  assert.equal(points.missedCount, 0);
});

test("after an outage a point is due at once, and what was due meanwhile counts as missed", () => {
  const points = scheduler();
  points.made(1000);
  points.skip("SESSION_LOST", 30_000);
  assert.equal(points.dueMs, 61_000);
  points.skip("SESSION_LOST", 62_000);
  assert.equal(points.missedCount, 0);
  points.skip("SESSION_LOST", 67_000);
  points.skip("SESSION_LOST", 130_000);
  assert.equal(points.missedCount, 2);
  assert.ok(points.dueMs <= 130_000);
  points.made(131_000);
  assert.equal(points.dueMs, 181_000);
});

test("a point that takes longer than an interval makes others late", () => {
  const points = scheduler();
  points.made(1000 + 2.5 * 60_000);
  assert.deepEqual([...points.missed], [["LATE", 2]]);
  assert.equal(points.dueMs, 181_000);
});

test("slots grow with the clock, and without it", () => {
  const points = scheduler();
  assert.equal(points.takeSlot(150_000), 10);
  assert.equal(points.takeSlot(150_000), 11);
  assert.equal(points.takeSlot(0), 12);
  points.seenSlot(20);
  points.seenSlot(5);
  assert.equal(points.takeSlot(150_000), 21);
});
