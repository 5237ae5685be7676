import { assert, must } from "@osr/base/assert";

/** Middle value; the mean of both middle ones where the count is even. */
export function median(values: readonly number[]): number {
  assert(values.length > 0, "a median needs a value");
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = must(sorted[middle], "middle");
  return sorted.length % 2 === 1 ? upper : (upper + must(sorted[middle - 1], "middle")) / 2;
}

/** The smallest value that at least the share `share` of all values does not exceed (nearest rank). */
export function quantile(values: readonly number[], share: number): number {
  assert(values.length > 0 && share > 0 && share <= 1, "a quantile needs values and a share");
  const sorted = values.toSorted((a, b) => a - b);
  return must(sorted[Math.ceil(share * sorted.length) - 1], "rank");
}

export type Interval = { readonly mean: number; readonly low: number; readonly high: number };

/** Two-sided 95 % interval of the mean of values that are about normally distributed (Student's t). */
export function interval95(values: readonly number[]): Interval {
  const count = values.length;
  assert(count >= 2, "an interval needs two values");
  const mean = values.reduce((sum, value) => sum + value, 0) / count;
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  const half = studentT95(count - 1) * Math.sqrt(squares / (count - 1) / count);
  return { mean, low: mean - half, high: mean + half };
}

/**
 * What share of `without` is lost in `with`, pair by pair, as an interval in percent. Negative: nothing is lost. By the
 * logarithm of the ratios, so that noise in either number pulls the mean in neither direction.
 */
export function pairedLossPercent(
  pairs: readonly { readonly without: number; readonly with: number }[],
): Interval {
  const { mean, low, high } = interval95(pairs.map((pair) => Math.log(pair.with / pair.without)));
  const loss = (logarithm: number): number => 100 * (1 - Math.exp(logarithm));
  return { mean: loss(mean), low: loss(high), high: loss(low) };
}

const NORMAL_95 = 1.959964;

/**
 * The 97.5 % quantile of Student's t by the expansion of Cornish and Fisher (Abramowitz and Stegun 26.7.5): within 0.002 of
 * the tables from 5 degrees of freedom on. With fewer the exact values.
 */
function studentT95(freedom: number): number {
  const exact = [12.7062, 4.3027, 3.1824, 2.7764][freedom - 1];
  if (exact !== undefined) return exact;
  const x = NORMAL_95;
  const g1 = (x ** 3 + x) / 4;
  const g2 = (5 * x ** 5 + 16 * x ** 3 + 3 * x) / 96;
  const g3 = (3 * x ** 7 + 19 * x ** 5 + 17 * x ** 3 - 15 * x) / 384;
  const g4 = (79 * x ** 9 + 776 * x ** 7 + 1482 * x ** 5 - 1920 * x ** 3 - 945 * x) / 92_160;
  return x + g1 / freedom + g2 / freedom ** 2 + g3 / freedom ** 3 + g4 / freedom ** 4;
}
