import assert from "node:assert/strict";
import { test } from "node:test";

import { interval95, median, pairedLossPercent, quantile } from "./statistics.ts";

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

// Half widths from tables of Student's t: 2.571 for 5 degrees of freedom, 2.145 for 14, 2.045 for 29.
for (const [count, t] of [
  [2, 12.7062],
  [6, 2.5706],
  [15, 2.1448],
  [30, 2.0452],
] as const)
  test(`the interval of ${count} values is as wide as the tables say`, () => {
    // Half of the values 0, half 2: mean 1, known deviation.
    const values = Array.from({ length: count }, (_, index) => (index % 2) * 2);
    const mean = values.reduce((sum, value) => sum + value, 0) / count;
    const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (count - 1);
    const { low, high } = interval95(values);
    const half = t * Math.sqrt(variance / count);
    assert.ok(Math.abs(high - mean - half) < 0.002 * half, `${high - mean} is not ${half}`);
    assert.ok(Math.abs(mean - low - half) < 0.002 * half);
  });

test("a loss is counted pair by pair, so that drift of the machine cancels", () => {
  const pairs = Array.from({ length: 15 }, (_, index) => {
    const without = 1000 * (index + 1);
    return { without, with: without * (index % 2 === 0 ? 0.97 : 0.99) };
  });
  const { mean, low, high } = pairedLossPercent(pairs);
  assert.ok(mean > 1.9 && mean < 2.2, String(mean));
  assert.ok(low > 1 && high < 3, `${low} to ${high}`);
});

test("noise that hits both sides alike is no loss and no gain", () => {
  const noise = [0.5, 2, 0.25, 4, 0.8, 1.25];
  const { mean, low, high } = pairedLossPercent(
    noise.map((factor) => ({ without: 1000, with: 1000 * factor })),
  );
  assert.ok(Math.abs(mean) < 1e-9, String(mean));
  assert.ok(low < -50 && high > 50, `${low} to ${high}: little is known`);
});
