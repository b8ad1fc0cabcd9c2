/**
 * Signal to quantization noise ratios of every rule on synthetic data, against values measured with an independent
 * implementation on 1024 × 2048 bf16-rounded samples. A rule that is subtly wrong (a threshold, a tie, a lost bit of
 * the factor) moves them by more than the tolerance; 'even' and 'oas' alone are closer to each other than that.
 */
import { describe, expect, it } from 'vitest';
import { errorMetrics } from '../../../src/quantize/metrics.js';
import type { QuantizeOptions } from '../../../src/quantize/options.js';
import { dequantize, quantize } from '../../../src/quantize/quantize.js';
import { roundToBf16 } from '../../support/exact.js';
import { gaussian, laplace, studentT } from '../../support/random-data.js';

const ROWS = 256;
const COLS = 2048;
const TOLERANCE_DB = 0.1;

const DISTRIBUTIONS: Record<string, () => number> = {
  Gauss: gaussian(7),
  Laplace: laplace(7),
  't(5)': studentT(7, 5),
  't(3)': studentT(7, 3),
};

type Row = [name: string, options: Partial<QuantizeOptions>, ...sqnr: number[]];

const mx32 = { format: 'mxfp4', blockSize: 32 } as const;
const mx16 = { format: 'mxfp4', blockSize: 16 } as const;

// Columns as in DISTRIBUTIONS.
const TABLE: Row[] = [
  ['32 floor', { ...mx32, scaleRule: 'floor' }, 18.8, 17.94, 17.99, 17.03],
  ['32 ceil', { ...mx32, scaleRule: 'ceil' }, 16.83, 15.42, 15.36, 14.24],
  ['32 rceil', { ...mx32, scaleRule: 'rceil' }, 18.76, 17.59, 17.56, 16.5],
  ['32 even', { ...mx32, scaleRule: 'even' }, 19.02, 18.13, 18.13, 17.16],
  ['32 oas', { ...mx32, scaleRule: 'oas' }, 19.03, 18.14, 18.15, 17.18],
  ['32 mse', { ...mx32, scaleRule: 'mse' }, 19.05, 18.22, 18.23, 17.28],
  ['32 oas, static', { ...mx32, macroScale: 'static' }, 19.3, 18.79, 18.93, 18.57],
  ['32 oas, dynamic', { ...mx32, macroScale: 'dynamic' }, 19.96, 19.39, 19.46, 18.99],
  ['32 oas, static 64', { ...mx32, macroScale: 'static', macroSize: 64 }, 19.53, 19.19, 19.3, 19.01],
  ['32 oas, dynamic 64', { ...mx32, macroScale: 'dynamic', macroSize: 64 }, 20.38, 19.88, 19.94, 19.47],
  ['16 floor', { ...mx16, scaleRule: 'floor' }, 18.6, 18.06, 18.14, 17.52],
  ['16 rceil', { ...mx16, scaleRule: 'rceil' }, 18.96, 18.2, 18.25, 17.58],
  ['16 even', { ...mx16, scaleRule: 'even' }, 19.16, 18.62, 18.68, 18.09],
  ['16 oas', { ...mx16, scaleRule: 'oas' }, 19.16, 18.62, 18.68, 18.09],
  ['16 mse', { ...mx16, scaleRule: 'mse' }, 19.17, 18.65, 18.71, 18.12],
  ['16 oas, static', { ...mx16, macroScale: 'static' }, 19.39, 19.14, 19.32, 19.43],
  ['16 oas, dynamic', { ...mx16, macroScale: 'dynamic' }, 20.14, 19.83, 19.93, 19.93],
  ['nvfp4', { format: 'nvfp4' }, 20.44, 20.65, 20.71, 20.91],
  ['nvfp4 four over six', { format: 'nvfp4', scaleRule: 'four-over-six' }, 21.22, 21.2, 21.24, 21.26],
];

describe.each(Object.keys(DISTRIBUTIONS))('%s', (name) => {
  const draw = DISTRIBUTIONS[name]!;
  const values = Float32Array.from({ length: ROWS * COLS }, () => roundToBf16(draw()));
  const column = Object.keys(DISTRIBUTIONS).indexOf(name);

  it.each(TABLE)('%s', (_, options, ...expected) => {
    const q = quantize(values, { rows: ROWS, cols: COLS, format: 'mxfp4', ...options });
    const { sqnr } = errorMetrics(values, dequantize(q));
    expect(Math.abs(sqnr - expected[column]!), `${sqnr} dB`).toBeLessThan(TOLERANCE_DB);
  });
});
