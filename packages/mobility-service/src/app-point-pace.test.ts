import assert from "node:assert/strict";
import { test } from "node:test";

import { AppPointPace } from "./app-point-pace.ts";
import { PointScheduler } from "./point-scheduler.ts";

test("scripts run around every point, at an interval, or around none", () => {
  const pace = new AppPointPace();
  pace.made(0);
  assert.equal(pace.isDue(1), true);
  pace.setInterval(3600);
  assert.equal(pace.isDue(3_590_000), false);
  assert.equal(pace.isDue(3_596_000), true, "the next point would be too late");
  pace.made(3_596_000);
  assert.equal(pace.isDue(3_600_000), false);
  pace.setInterval(0);
  assert.equal(pace.isDue(1e12), false);
});

test("a shorter interval counts at once, a longer one after the point that is due", () => {
  const points = new PointScheduler({ intervalSeconds: 300 });
  points.setInterval(600, 0);
  assert.equal(points.isStarted, false);
  points.start(0);
  points.made(0);
  assert.equal(points.dueMs, 600_000);
  points.setInterval(60, 10_000);
  assert.equal(points.dueMs, 70_000);
  points.setInterval(300, 20_000);
  assert.equal(points.dueMs, 70_000);
  points.made(70_000);
  assert.equal(points.dueMs, 370_000);
});
