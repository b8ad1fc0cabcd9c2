import { describe, expect, it } from 'vitest';
import { InvalidArgumentError } from '../../../src/errors.js';
import { HADAMARD_SIGNS, rotate, unrotate } from '../../../src/quantize/hadamard.js';
import { errorMetrics } from '../../../src/quantize/metrics.js';
import { dequantize, quantize } from '../../../src/quantize/quantize.js';
import { expectMatchesReference, expectSameElements } from '../../support/bytes.js';
import { DATA, FLOAT_MAX, fill, gaussian } from '../../support/random-data.js';

const SIGNS = [1, 1, 1, -1, 1, -1, -1, -1, -1, -1, -1, 1, -1, 1, -1, -1];

/** Sylvester's construction: H[2n] = [[H, H], [H, -H]]. Entries ±1. */
function sylvester(size: number): number[][] {
  if (size === 1) return [[1]];
  const half = sylvester(size / 2);
  return [...half.map((row) => [...row, ...row]), ...half.map((row) => [...row, ...row.map((x) => -x)])];
}

/** diag(signs) · H16 / 4. */
const H = sylvester(16).map((row, i) => row.map((x) => (SIGNS[i]! * x) / 4));

/** Rows of 16 times a matrix, in f64. */
const times = (values: ArrayLike<number>, matrix: number[][]): number[] =>
  Array.from({ length: values.length }, (_, i) => {
    const tile = i - (i % 16);
    return matrix.reduce((sum, row, k) => sum + values[tile + k]! * row[i % 16]!, 0);
  });

const HT = H[0]!.map((_, i) => H.map((row) => row[i]!));

/** Four rounded additions along each path: |error| ≤ 4 · 2^-24 · sum(|t|) / 4, and a little for subnormals. */
const bound = (values: ArrayLike<number>, i: number): number => {
  let sum = 0;
  for (let k = 0; k < 16; k++) sum += Math.abs(values[i - (i % 16) + k]!);
  return sum * 2 ** -24 * 1.0001 + 2 ** -149;
};

/** The butterflies of a tile, strides 1, 2, 4, 8, every sum rounded to f32: the arithmetic that a GPU repeats. */
function butterflies(values: Float32Array): Float32Array {
  const out = values.map((x, i) => x * SIGNS[i % 16]!);
  for (const stride of [1, 2, 4, 8]) {
    const before = out.slice();
    for (let i = 0; i < out.length; i++) {
      const isUpper = Math.floor(i / stride) % 2 === 1;
      out[i] = isUpper ? before[i - stride]! - before[i]! : before[i]! + before[i + stride]!;
    }
  }
  return out.map((x) => x / 4);
}

describe('the rotation', () => {
  it('has the sign vector of TransformerEngine', () => {
    expect(HADAMARD_SIGNS).toEqual(SIGNS);
  });

  it('is orthonormal as a matrix: H · Hᵀ = I', () => {
    for (let i = 0; i < 16; i++) {
      for (let j = 0; j < 16; j++) {
        expect(H[i]!.reduce((sum, x, k) => sum + x * H[j]![k]!, 0)).toBe(i === j ? 1 : 0);
      }
    }
  });

  it('takes unit vectors to the rows of H exactly', () => {
    for (let i = 0; i < 16; i++) {
      const unit = new Float32Array(16);
      unit[i] = 1;
      expect([...rotate(unit)]).toEqual(H[i]);
      expect([...unrotate(unit)].map((x) => x + 0)).toEqual(HT[i]);
    }
  });

  it.each(['gaussian', 'heavy-tailed', 'around 2^-126', 'subnormal', 'mixed magnitudes'] as const)(
    'is x · H, and back, within the rounding of f32: %s',
    (kind) => {
      const x = DATA[kind](64 * 16, 1);
      const rotated = rotate(x);
      const exact = times(x, H);
      const back = unrotate(rotated);
      const exactBack = times(rotated, HT);
      for (let i = 0; i < x.length; i++) {
        expect(Math.abs(rotated[i]! - exact[i]!)).toBeLessThanOrEqual(bound(x, i));
        expect(Math.abs(back[i]! - exactBack[i]!)).toBeLessThanOrEqual(bound(rotated, i));
        // There and back again: both errors, the first one spread over the tile by the second rotation.
        const both = bound(rotated, i) + 4 * bound(x, i) + 16 * 2 ** -149;
        expect(Math.abs(back[i]! - x[i]!)).toBeLessThanOrEqual(both);
      }
    },
  );

  it('adds in butterflies of strides 1, 2, 4, 8, each sum rounded to f32', () => {
    for (const kind of ['gaussian', 'heavy-tailed', 'mixed magnitudes', 'subnormal'] as const) {
      const x = DATA[kind](128 * 16, 2);
      expectSameElements(rotate(x), butterflies(x), kind);
    }
  });

  it('keeps the norm', () => {
    const x = fill(16 * 64, gaussian(3));
    const norm = (values: Float32Array) => values.reduce((sum, v) => sum + v * v, 0);
    expect(norm(rotate(x)) / norm(x)).toBeCloseTo(1, 5);
  });

  it('leaves its input alone', () => {
    const x = fill(32, gaussian(4));
    const before = x.slice();
    rotate(x);
    unrotate(x);
    expect(x).toEqual(before);
  });

  it('refuses tiles whose sums leave the range of f32, and names them', () => {
    const x = new Float32Array(48);
    x.fill(FLOAT_MAX, 16, 32);
    const error = new InvalidArgumentError(
      'quantize',
      'the Hadamard rotation of values 16..31 leaves the range of f32; scale the tensor down',
    );
    expect(() => rotate(x)).toThrow(error);
    expect(() => quantize(x, { rows: 1, cols: 48, format: 'nvfp4', hadamard: true })).toThrow(error);
    // One value alone is only divided by 4.
    const single = new Float32Array(16);
    single[5] = FLOAT_MAX;
    expect(Math.abs(rotate(single)[0]!)).toBe(FLOAT_MAX / 4);
  });
});

describe('quantize with hadamard', () => {
  it.each(['mxfp4', 'nvfp4'] as const)('quantizes the rotated values of %s', (format) => {
    const values = fill(7 * 96, gaussian(5));
    const options = { rows: 7, cols: 96, format } as const;
    const q = quantize(values, { ...options, hadamard: true });
    expect(q.hadamard).toBe(true);
    expect({ ...q, hadamard: false }).toEqual(quantize(rotate(values), options));
    expectMatchesReference(q, butterflies(values), options, format);
  });

  it.each(['mxfp4', 'nvfp4'] as const)('dequantizes %s to the original values', (format) => {
    const values = fill(64 * 96, gaussian(6));
    const q = quantize(values, { rows: 64, cols: 96, format, hadamard: true });
    const plain = quantize(values, { rows: 64, cols: 96, format });
    // Rotated Gaussian values are Gaussian, so the error is what it is without the rotation.
    const rotated = errorMetrics(values, dequantize(q)).sqnr;
    expect(Math.abs(rotated - errorMetrics(values, dequantize(plain)).sqnr)).toBeLessThan(0.3);
    expect(rotated).toBeGreaterThan(18);
  });

  it('leaves products of rotated operands unchanged', () => {
    const a = fill(64, gaussian(7));
    const b = fill(64, gaussian(8));
    const dot = (x: Float32Array, y: Float32Array) => x.reduce((sum, v, i) => sum + v * y[i]!, 0);
    expect(dot(rotate(a), rotate(b))).toBeCloseTo(dot(a, b), 5);
  });
});
