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

export type Interval = { readonly middle: number; readonly low: number; readonly high: number };

const NORMAL_95 = 1.959964;
/** Below, the normal distribution stands badly for that of ranks. */
const RANKED_MIN = 10;

/**
 * The middle of values that are spread alike to both sides, with its two-sided 95 % interval, by the estimator of Hodges and
 * Lehmann: the median of the means of all pairs, and the interval that belongs to Wilcoxon's signed ranks. For normal values
 * as good as the mean (95 %), and the few windows in which something else had the machine do not move it.
 */
export function middle95(values: readonly number[]): Interval {
  const count = values.length;
  assert(count >= RANKED_MIN, `an interval needs ${RANKED_MIN} values`);
  const means = values
    .flatMap((value, index) => values.slice(index).map((other) => (value + other) / 2))
    .toSorted((a, b) => a - b);
  const ranks = means.length / 2;
  const spread = Math.sqrt((count * (count + 1) * (2 * count + 1)) / 24);
  const outside = Math.max(0, Math.floor(ranks - NORMAL_95 * spread) - 1);
  return {
    middle: median(means),
    low: must(means[outside], "low"),
    high: must(means[means.length - 1 - outside], "high"),
  };
}

/**
 * What share of `without` is lost in `with`, pair by pair, as an interval in percent. Negative: nothing is lost. By the
 * logarithm of the ratios, so that noise in either number pulls in neither direction.
 */
export function pairedLossPercent(
  pairs: readonly { readonly without: number; readonly with: number }[],
): Interval {
  const { middle, low, high } = middle95(pairs.map((pair) => Math.log(pair.with / pair.without)));
  const loss = (logarithm: number): number => 100 * (1 - Math.exp(logarithm));
  return { middle: loss(middle), low: loss(high), high: loss(low) };
}
