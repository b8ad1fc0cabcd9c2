import { expect, test } from 'vitest';
import {
  ActivationStatistics,
  activationTable,
  componentActivations,
  MAGNITUDE_BINS,
  MagnitudeStatistics,
} from '../../../src/sensitivity/activation-statistics.js';
import { roundToBf16 } from '../../support/exact.js';
import { halfToFloat, toHalf } from '../../support/half.js';
import { fill, gaussian, studentT } from '../../support/random-data.js';

/** The nearest rank by sorting. */
function sortedQuantile(values: Float32Array, permille: number): number {
  const sizes = values.map(Math.abs).sort();
  return sizes[Math.max(1, Math.ceil((permille * sizes.length) / 1000)) - 1]!;
}

const gather = (values: Float32Array, cols: number, batch: number) => {
  const statistics = new ActivationStatistics(cols);
  for (let start = 0; start < values.length; start += batch * cols)
    statistics.add(values.subarray(start, start + batch * cols));
  return statistics;
};

const heavy = fill(50_000, studentT(5, 2));
const DATA = {
  f32: heavy,
  bf16: heavy.map(roundToBf16),
  f16: halfToFloat(toHalf(heavy)),
  'mostly zero': heavy.map((value, i) => (i % 50 ? 0 : value)),
  'all zero': new Float32Array(50_000),
  'one value': new Float32Array(50_000).fill(-3),
  tiny: heavy.map((value) => value * 2 ** -120),
};

test.each(Object.entries(DATA))('quantiles of %s values against sorting', (kind, values) => {
  const statistics = gather(values, 50, 17);
  for (const permille of [0, 1, 10, 500, 980, 990, 999, 1000]) {
    const exact = sortedQuantile(values, permille);
    const found = statistics.quantile(permille / 1000);
    if (kind === 'f32' || kind === 'tiny' || kind === 'mostly zero') {
      expect(found).toBeLessThanOrEqual(exact);
      // Subnormals have no leading one: their bins are 2^-136 wide.
      expect(exact - found).toBeLessThan(Math.max(exact * 2 ** -10, 2 ** -135));
    } else {
      expect(found, `${permille}`).toBe(exact);
    }
  }
});

test('the rank of P99.9 is not off by one where the product is rounded', () => {
  for (const count of [1, 999, 1000, 1001, 2000, 3000, 7000, 12_345]) {
    // Distinct, with ten bits of mantissa at most.
    const values = Float32Array.from({ length: count }, (_, i) => 2 ** (i >> 9) * (1 + (i & 511) / 512));
    expect(gather(values, 1, count).quantile(0.999)).toBe(sortedQuantile(values, 999));
  }
});

test('sums by column and over all, from batches', () => {
  const draw = gaussian(3);
  const values = fill(600, (i) => draw() * (1 + (i % 6)));
  const statistics = gather(values, 6, 7);
  const { values: count, max, mean, p999, ratio } = statistics.summary();
  expect(count).toBe(600);
  expect(max).toBe(Math.max(...values.map(Math.abs)));
  expect(mean).toBeCloseTo(values.reduce((sum, x) => sum + Math.abs(x), 0) / 600, 12);
  expect(ratio).toBe(max / p999);
  for (let col = 0; col < 6; col++) {
    const column = values.filter((_, i) => i % 6 === col);
    expect(statistics.columnMax[col]).toBe(Math.max(...column.map(Math.abs)));
    expect(statistics.meanSquares[col]).toBeCloseTo(column.reduce((sum, x) => sum + x * x, 0) / 100, 10);
  }
});

test('counts from elsewhere are the same, but for the mean', () => {
  for (const values of Object.values(DATA)) {
    const counts = new Uint32Array(MAGNITUDE_BINS);
    for (const bits of new Uint32Array(Float32Array.from(values).buffer))
      counts[(bits & 0x7fffffff) >>> 13]!++;
    const own = new MagnitudeStatistics();
    own.add(values);
    const other = new MagnitudeStatistics();
    const max = values.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
    // In two parts.
    const first = counts.map((count) => count >> 1);
    other.addCounts(first, max / 2);
    other.addCounts(
      counts.map((count, bin) => count - first[bin]!),
      max,
    );
    const { mean, ...exact } = own.summary();
    const { mean: found, ...rest } = other.summary();
    expect(rest).toEqual(exact);
    expect(Math.abs(found - mean)).toBeLessThanOrEqual(mean * 2 ** -11);
  }
  expect(() => new MagnitudeStatistics().addCounts([1, 2], 1)).toThrow(/2 counts are not 261120/);
});

test('f64 values count as the f32 they are rounded to', () => {
  const a = new ActivationStatistics(2);
  const b = new ActivationStatistics(2);
  a.add(Float64Array.of(0.1, -0.3, 1 + 2 ** -40, 7));
  b.add(Float32Array.of(0.1, -0.3, 1, 7));
  expect(a.summary()).toEqual(b.summary());
});

test('refuses what is no inputs, and counts nothing of it', () => {
  expect(() => new ActivationStatistics(0)).toThrow(/cols = 0/);
  const statistics = new ActivationStatistics(3);
  expect(() => statistics.quantile(0.5)).toThrow(/no inputs have been added/);
  expect(() => statistics.add(new Float32Array(4))).toThrow(/4 inputs are no rows of k = 3/);
  expect(() => statistics.add(Float32Array.of(1, 2, 3, 4, Number.NaN, 6))).toThrow(/row 1, col 1 is NaN/);
  expect(() => statistics.add(Float64Array.of(1, 1e300, 3))).toThrow(/row 0, col 1 is 1e\+300/);
  expect(() => statistics.summary()).toThrow(/no inputs have been added/);
  statistics.add(Float32Array.of(1, 2, 3));
  expect(() => statistics.quantile(1.5)).toThrow(/quantile 1\.5/);
  expect(() => statistics.secondMoments).toThrow(/secondMoments/);
});

test('by component, as the paper has it', () => {
  const summary = (p999: number, max: number) => ({
    values: 1,
    max,
    mean: p999 / 4,
    p999,
    ratio: max / p999,
  });
  const components = componentActivations(
    new Map([
      ['m.0.mlp.down_proj.weight', summary(2, 400)],
      ['m.0.self_attn.q_proj.weight', summary(13, 36)],
      ['m.1.mlp.down_proj.weight', summary(4, 40)],
      ['m.1.self_attn.q_proj.weight', summary(9, 36)],
    ]),
  );
  expect(components).toEqual([
    { component: 'q', layers: 2, p999: 11, max: 36, mean: 2.75, meanRatio: (36 / 13 + 4) / 2 },
    { component: 'down', layers: 2, p999: 3, max: 400, mean: 0.75, meanRatio: 105 },
  ]);
  expect(activationTable(components).rows[1]).toEqual(['down', '2', '3.00', '400', '0.750', '105']);
});
