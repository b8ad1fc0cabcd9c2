/** The accuracy section's data and statistics, against moments, worked cases and plain loops. */
import { describe, expect, it, test } from 'vitest';
import {
  COLS,
  cropColumns,
  DISTRIBUTIONS,
  type Distribution,
  ERROR_BINS,
  errorHistogram,
  generate,
  heatMap,
  MAX_VALUES,
  measure,
  measuredPart,
  ROWS,
  scaleHistogram,
  scaleLabel,
  WAYS,
} from '../../../demo/accuracy-data.js';
import { dequantize, errorMetrics, MACRO_SIZES, quantize, SCALE_RULES } from '../../../src/index.js';

const kinds = Object.keys(DISTRIBUTIONS) as Distribution[];
const mean = (values: Float32Array, f: (x: number) => number) =>
  values.reduce((sum, x) => sum + f(x), 0) / values.length;

describe('data', () => {
  it.each(kinds)('%s is the same for a seed and another for another', (kind) => {
    const { rows, cols, values } = generate(kind, 3, 4, 256);
    expect([rows, cols, values.length]).toEqual([4, 256, 1024]);
    expect(generate(kind, 3, 4, 256).values).toEqual(values);
    expect(generate(kind, 4, 4, 256).values).not.toEqual(values);
  });

  // E x, E |x|, E x² and the share of values above 4: 6.3e-5, e^-4 and 0.02801 by the distribution functions.
  it.each([
    ['gaussian', Math.sqrt(2 / Math.PI), 1, 6.334e-5],
    ['laplace', 1, 2, Math.exp(-4)],
    // E x² = 3 has no use: its estimate has infinite variance.
    ['student-t', (2 * Math.sqrt(3)) / Math.PI, undefined, 0.02801],
  ] as const)('moments and tail of %s', (kind, absolute, square, tail) => {
    const { values } = generate(kind, 11);
    expect(values).toHaveLength(ROWS * COLS);
    expect(mean(values, (x) => x)).toBeCloseTo(0, 1.5);
    expect(mean(values, Math.abs)).toBeCloseTo(absolute, 1.7);
    if (square) expect(mean(values, (x) => x * x)).toBeCloseTo(square, 1.5);
    const share = mean(values, (x) => Number(Math.abs(x) > 4));
    expect(share / tail).toBeGreaterThan(0.7);
    expect(share / tail).toBeLessThan(1.3);
  });

  it('has as many outlier channels as it says, in whole columns', () => {
    const { rows, cols, values } = generate('channel-outliers', 5);
    const rms = Array.from({ length: cols }, (_, col) => {
      let sum = 0;
      for (let row = 0; row < rows; row++) sum += values[row * cols + col]! ** 2;
      return Math.sqrt(sum / rows);
    });
    const large = rms.filter((value) => value > 5);
    expect(large).toHaveLength(16);
    for (const value of large) expect(Math.abs(value / 30 - 1)).toBeLessThan(0.25);
    for (const value of rms) if (value <= 5) expect(Math.abs(value - 1)).toBeLessThan(0.25);
  });
});

describe('the part of a matrix', () => {
  it.each([
    [3, 64, 3, 64],
    [3, 100, 3, 96],
    [3, 31, 0, 0],
    [4096, 4096, 128, 4096],
    [5, 1_000_000, 1, MAX_VALUES],
  ])('of [%i, %i] is [%i, %i]', (rows, cols, partRows, partCols) => {
    expect(measuredPart(rows, cols)).toEqual({ rows: partRows, cols: partCols });
  });

  test('columns are cut', () => {
    expect(cropColumns(Float32Array.of(1, 2, 3, 4, 5, 6), 3, 2)).toEqual(Float32Array.of(1, 2, 4, 5));
    const whole = Float32Array.of(1, 2);
    expect(cropColumns(whole, 1, 1)).toBe(whole);
  });
});

describe('ways', () => {
  it('are distinct, and all rules and macro sizes are among them', () => {
    expect(new Set(WAYS.map(({ id }) => id)).size).toBe(WAYS.length);
    expect(new Set(WAYS.map(({ options }) => JSON.stringify(options))).size).toBe(WAYS.length);
    const rules = new Set(WAYS.map(({ options }) => `${options.format} ${options.scaleRule}`));
    for (const format of ['mxfp4', 'nvfp4'] as const) {
      for (const rule of SCALE_RULES[format]) expect(rules).toContain(`${format} ${rule}`);
    }
    const dynamic = WAYS.filter(({ options }) => options.macroScale === 'dynamic' && !options.blockSize);
    expect(dynamic.map(({ options }) => options.macroSize)).toEqual([...MACRO_SIZES]);
  });

  it.each(WAYS)('$id: the numbers are those of the library and of plain loops', (way) => {
    const matrix = generate('laplace', 2, 6, 256);
    const { values, rows, cols } = matrix;
    const result = measure(matrix, way);

    const approximation = dequantize(quantize(values, { ...way.options, rows, cols }));
    const metrics = errorMetrics(values, approximation);
    expect(result.sqnr).toBe(metrics.sqnr);
    expect(result.maxError).toBe(metrics.maxError);

    let signal = 0;
    let noise = 0;
    let worst = 0;
    for (let i = 0; i < values.length; i++) {
      signal += values[i]! ** 2;
      noise += (values[i]! - approximation[i]!) ** 2;
      if (Math.abs(values[i]! - approximation[i]!) > Math.abs(values[worst]! - approximation[worst]!))
        worst = i;
    }
    expect(result.sqnr).toBeCloseTo(10 * Math.log10(signal / noise), 9);
    expect(result.maxErrorRow * cols + result.maxErrorCol).toBe(worst);

    // Every value and every block is somewhere.
    const { histogram, heatMap: map, scales } = result;
    expect(sum(histogram.counts) + histogram.outside).toBe(values.length);
    const blockSize = way.options.blockSize ?? (way.options.format === 'nvfp4' ? 16 : 32);
    expect(sum(scales.counts) + scales.zero).toBe(values.length / blockSize);
    // Cells are of equal size here: their mean power is all the noise.
    expect([map.height, map.width]).toEqual([rows, cols / blockSize]);
    const power = sum(Array.from(map.db, (db) => 10 ** (db / 10))) / map.db.length;
    expect(-10 * Math.log10(power)).toBeCloseTo(metrics.sqnr, 3);
  });

  it('4 bits, and scales by the block and the macro block', () => {
    const matrix = generate('gaussian', 2, 1, 128);
    const bits = Object.fromEntries(WAYS.map((way) => [way.id, measure(matrix, way).bits]));
    expect(bits).toMatchObject({
      'mxfp4-oas': 4.25,
      'mxfp4-oas-static128': 4.3125,
      'mxfp4-oas-dynamic32': 4.5,
      'mxfp4-oas-block16': 4.5,
      'nvfp4-te': 4.5,
    });
  });

  it('gives an all-zero matrix without dividing by nothing', () => {
    const result = measure({ rows: 2, cols: 64, values: new Float32Array(128) }, WAYS[0]!);
    expect(result.sqnr).toBe(Number.POSITIVE_INFINITY);
    expect(result.histogram.range).toBe(0);
    expect(result.histogram.counts[(ERROR_BINS - 1) / 2]).toBe(128);
    expect(result.scales).toEqual({ format: 'mxfp4', firstByte: 0, counts: [], zero: 4 });
    for (const db of result.heatMap.db) expect(db).toBe(Number.NEGATIVE_INFINITY);
  });
});

describe('statistics', () => {
  test('error histogram of a worked case', () => {
    // 100 values of 2 with error 0, but one of -1, one of +0.5, and 30: RMS error 3, so ±12.01 is the range.
    const reference = new Float32Array(100).fill(2);
    const approximation = reference.slice();
    approximation[3] = 1;
    approximation[7] = 2.5;
    approximation[8] = 32;
    const { range, counts, outside } = errorHistogram(reference, approximation);
    const limit = 4 * Math.sqrt((1 + 0.25 + 900) / 100);
    expect(range).toBeCloseTo(limit / 2, 12);
    expect(outside).toBe(1);
    const width = (2 * limit) / ERROR_BINS;
    const expected = new Uint32Array(ERROR_BINS);
    expected[40] = 97;
    expected[40 + Math.round(-1 / width)]!++;
    expected[40 + Math.round(0.5 / width)]!++;
    expect(counts).toEqual(expected);
  });

  test('heat map of a worked case', () => {
    // Blocks of 2 in [2, 4]; mean square 4. Errors: 2 and 0 in the first block, 0.4 twice in the last.
    const reference = new Float32Array(8).fill(2);
    const approximation = Float32Array.of(4, 2, 2, 2, 2, 2, 2.4, 1.6);
    const { height, width, rowsPerCell, blocksPerCell, db } = heatMap(reference, approximation, 2, 4, 2);
    expect([height, width, rowsPerCell, blocksPerCell]).toEqual([2, 2, 1, 1]);
    expect(db[0]).toBeCloseTo(10 * Math.log10(2 / 4), 5);
    expect([db[1], db[2]]).toEqual([Number.NEGATIVE_INFINITY, Number.NEGATIVE_INFINITY]);
    expect(db[3]).toBeCloseTo(10 * Math.log10(0.16 / 4), 5);
  });

  test('heat map joins rows and blocks of large matrices; the last cells have fewer', () => {
    const rows = 300;
    const cols = 260 * 16;
    const reference = new Float32Array(rows * cols).fill(1);
    const approximation = reference.slice();
    approximation[299 * cols + cols - 1] = 3;
    const map = heatMap(reference, approximation, rows, cols, 16);
    expect([map.height, map.width, map.rowsPerCell, map.blocksPerCell]).toEqual([100, 87, 3, 3]);
    // 259 / 3: the last cell has blocks 258 and 259 of rows 297 to 299.
    expect(map.db.at(-1)).toBeCloseTo(10 * Math.log10(4 / (3 * 2 * 16)), 5);
    expect(map.db.filter(Number.isFinite)).toHaveLength(1);
  });

  test('scales are counted between the least and the largest', () => {
    const scales = Uint8Array.of(125, 0, 127, 125, 0, 0);
    expect(scaleHistogram({ format: 'mxfp4', scales })).toEqual({
      format: 'mxfp4',
      firstByte: 125,
      counts: [2, 0, 1],
      zero: 3,
    });
  });

  test.each([
    ['mxfp4', 127, '2⁰'],
    ['mxfp4', 117, '2⁻¹⁰'],
    ['nvfp4', 0x38, '1'],
    ['nvfp4', 0x7e, '448'],
    ['nvfp4', 1, '0.00195'],
  ] as const)('%s scale byte %i is %s', (format, byte, label) => {
    expect(scaleLabel(format, byte)).toBe(label);
  });
});

function sum(values: Iterable<number>): number {
  let total = 0;
  for (const value of values) total += value;
  return total;
}
