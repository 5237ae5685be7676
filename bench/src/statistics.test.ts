import assert from "node:assert/strict";
import { test } from "node:test";

import { SeededBytes } from "./data/seeded-bytes.ts";
import { median, middle95, pairedLossPercent, quantile } from "./statistics.ts";

test("the median is the middle, or the mean of both middle values", () => {
  assert.equal(median([5, 1, 3]), 3);
  assert.equal(median([4, 1, 3, 2]), 2.5);
  assert.equal(median([7]), 7);
  assert.throws(() => median([]));
});

test("a quantile is a value that occurred, and the highest one for p99 of fifty", () => {
  const values = Array.from({ length: 50 }, (_, index) => 50 - index);
  assert.equal(quantile(values, 0.5), 25);
  assert.equal(quantile(values, 0.95), 48);
  assert.equal(quantile(values, 0.99), 50);
  assert.equal(quantile([3], 0.01), 3);
});

/** A number between 0 and 1, neither included. */
function uniform(random: SeededBytes): number {
  return (random.below(1_000_000) + 0.5) / 1_000_000;
}

// Normal noise, and such with tails so heavy that its mean says nothing at all (Cauchy).
for (const [name, noise] of [
  ["normal", (u: number, v: number) => Math.sqrt(-2 * Math.log(u)) * Math.cos(2 * Math.PI * v)],
  ["heavy", (u: number) => Math.tan(Math.PI * (u - 0.5))],
] as const)
  test(`the interval holds the truth in 95 of 100 cases under ${name} noise`, () => {
    const random = new SeededBytes(`interval ${name}`);
    const rounds = 600;
    let held = 0;
    for (let round = 0; round < rounds; round++) {
      const values = Array.from({ length: 15 }, () => 7 + noise(uniform(random), uniform(random)));
      const { middle, low, high } = middle95(values);
      assert.ok(low <= middle && middle <= high);
      if (low <= 7 && high >= 7) held += 1;
    }
    assert.ok(held > 0.93 * rounds && held < 0.98 * rounds, `${held} of ${rounds}`);
  });

test("a few values from another world hardly move the middle or its interval", () => {
  const values = Array.from({ length: 60 }, (_, index) => Math.sin(index) / 10);
  const before = middle95(values);
  const after = middle95([...values.slice(4), 50, 80, -30, 90]);
  assert.ok(Math.abs(after.middle - before.middle) < 0.01);
  assert.ok(after.high - after.low < 1.5 * (before.high - before.low));
});

test("a loss is counted pair by pair, so that drift of the machine cancels", () => {
  const pairs = Array.from({ length: 15 }, (_, index) => {
    const without = 1000 * (index + 1);
    return { without, with: without * (index % 2 === 0 ? 0.97 : 0.99) };
  });
  const { middle, low, high } = pairedLossPercent(pairs);
  assert.ok(middle > 1.9 && middle < 2.2, String(middle));
  assert.ok(low > 0.99 && high < 3.01, `${low} to ${high}`);
});

test("noise that hits both sides alike is no loss and no gain", () => {
  const noise = [0.5, 2, 0.25, 4, 0.8, 1.25, 0.3, 1 / 0.3, 0.2, 5, 0.125, 8];
  const { middle, low, high } = pairedLossPercent(
    noise.map((factor) => ({ without: 1000, with: 1000 * factor })),
  );
  assert.ok(Math.abs(middle) < 1e-9, String(middle));
  assert.ok(low < -50 && high > 50, `${low} to ${high}: little is known`);
});
