import assert from "node:assert/strict";
import { test } from "node:test";

import { HOUR_MS, MINUTE_MS } from "@osr/base/units";

import { certificateHealth, clockHealth, freezeHealth } from "./machine-health.ts";
import { FREEZE_MS_MAX } from "./quiet-instant.ts";

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
  assert.equal(freezeHealth(FREEZE_MS_MAX + 1)[0]?.code, "FREEZE_OVERSHOT");
});
