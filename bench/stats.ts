/** Statistics of samples. */

/** Median, 20th and 80th percentile. */
export interface Spread {
  readonly median: number;
  readonly p20: number;
  readonly p80: number;
}

export function spread(samples: readonly number[]): Spread {
  const sorted = samples.toSorted((a, b) => a - b);
  const at = (quantile: number) => sorted[Math.round(quantile * (sorted.length - 1))] ?? Number.NaN;
  return { median: at(0.5), p20: at(0.2), p80: at(0.8) };
}

export const scaled = ({ median, p20, p80 }: Spread, factor: number): Spread => ({
  median: median * factor,
  p20: p20 * factor,
  p80: p80 * factor,
});

export function geometricMean(values: readonly number[]): number {
  return Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length);
}
