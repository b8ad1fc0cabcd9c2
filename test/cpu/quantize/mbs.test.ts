import { describe, expect, it } from 'vitest';
import { DynamicFactorSearch, scaleUp, staticFactorByte } from '../../../src/quantize/mbs.js';
import { quantize } from '../../../src/quantize/quantize.js';
import { exact, inUnits, multiply, neighbour32, roundToF32 } from '../../support/exact.js';
import { DATA, FLOAT_MAX, fill, gaussian, uniform } from '../../support/random-data.js';
import {
  dynamicErrors,
  nearestCode,
  referenceExponent,
  referenceStaticByte,
} from '../../support/reference-quantizer.js';

/** Factor bytes of one row. */
function macroBytes(
  values: Float32Array,
  macroScale: 'static' | 'dynamic',
  macroSize: 32 | 64 | 128 = 128,
): number[] {
  const q = quantize(values, { rows: 1, cols: values.length, format: 'mxfp4', macroScale, macroSize });
  return [...q.macroScales!];
}

describe('static factor', () => {
  it('is the largest f that keeps A · f at or below 6 · 2^i, in every binade', () => {
    const u = uniform(1);
    for (let p = -149; p <= 127; p++) {
      const mantissas = [
        1,
        1.5,
        2 - 2 ** -23,
        1 + 2 ** -23,
        1.5 + 2 ** -23,
        1.5 - 2 ** -23,
        1 + u(),
        1 + u(),
      ];
      for (const a of mantissas.map((mantissa) => Math.min(Math.fround(mantissa * 2 ** p), FLOAT_MAX))) {
        expect(staticFactorByte(a), `${a}`).toBe(referenceStaticByte(a));
      }
    }
  });

  it.each([
    [6, 0],
    [3, 0],
    [1.5, 0],
    [4, 128],
    [1, 128],
    [5, 51], // 6/5 = 1.2, 0.2 · 256 = 51.2
    [7, 182], // 12/7 = 1.714…, 0.714… · 256 = 182.86
    [neighbour32(6, 1), 255],
    [neighbour32(6, -1), 0],
    [0, 0],
  ])('of a maximum of %s is byte %i', (a, byte) => {
    expect(staticFactorByte(a)).toBe(byte);
    const values = new Float32Array(32);
    values[17] = -a;
    expect(macroBytes(values, 'static')).toEqual([byte]);
  });

  it('is exact where 6/A is a multiple of 1/256 and at the neighbours of that', () => {
    // A = 6 · 256 / (256 + m) is an f32 for few m only; those are where a rounded division would err.
    let found = 0;
    for (let m = 1; m < 256; m++) {
      const a = Math.fround(1536 / (256 + m));
      if (a * (256 + m) === 1536) {
        found++;
        expect(staticFactorByte(a)).toBe(m);
        expect(staticFactorByte(neighbour32(a, 1))).toBe(m - 1);
      }
      expect(staticFactorByte(a)).toBe(referenceStaticByte(a));
    }
    expect(found).toBeGreaterThan(0);
  });

  it('lands the maximum of the macro block at most 1/256 below 6 · 2^i', () => {
    const values = fill(128, gaussian(3));
    const q = quantize(values, { rows: 1, cols: 128, format: 'mxfp4', macroScale: 'static' });
    const y = values.reduce((max, x) => Math.max(max, Math.abs(x)), 0) * (1 + q.macroScales![0]! / 256);
    const landing = y / 2 ** Math.floor(Math.log2(y / 6));
    expect(landing / 6 - 1 < 2 ** -20 || landing / 12 > 1 - 1 / 256).toBe(true);
  });
});

describe('scaling by a factor', () => {
  it('rounds x · f to 24 bits once, without overflow, with subnormals', () => {
    const u = uniform(2);
    for (let i = 0; i < 20000; i++) {
      const x = Math.fround((u() < 0.5 ? -1 : 1) * 2 ** Math.min(u() * 280 - 150, 127.9999));
      const f = 1 + Math.floor(u() * 256) / 256;
      expect(scaleUp(x, f)).toBe(roundToF32(multiply(exact(x), exact(f)), 'unbounded above') || x * 0);
    }
    expect(scaleUp(FLOAT_MAX, 1)).toBe(FLOAT_MAX);
    // 1.5 · (2^24 - 1) = 2 · 12582911.25
    expect(scaleUp(FLOAT_MAX, 1.5)).toBe(12582911 * 2 ** 105);
    expect(scaleUp(2 ** 127, 511 / 256)).toBe((511 / 256) * 2 ** 127);
    expect(scaleUp(-0, 1.5)).toBe(-0);
  });
});

/** Squared errors, times 16² · 2^(2 · 200), of all 16 candidates under 'oas', as fractions over (16 + j)². */
function exactErrors(values: Float32Array, blockSize: number): { sum: bigint; weight: bigint }[] {
  return Array.from({ length: 16 }, (_, j) => {
    let sum = 0n;
    for (let start = 0; start < values.length; start += blockSize) {
      const block = values.subarray(start, start + blockSize);
      const y = Array.from(block, (x) =>
        roundToF32(multiply(exact(Math.abs(x)), exact(1 + j / 16)), 'unbounded above'),
      );
      const exponent = referenceExponent(Math.max(...y), 'oas');
      block.forEach((x, i) => {
        const grid = [0, 0.5, 1, 1.5, 2, 3, 4, 6][nearestCode(y[i]! * 2 ** -exponent)]! * 2 ** exponent;
        const residual = inUnits(Math.abs(x), -200) * BigInt(16 + j) - 16n * inUnits(grid, -200);
        sum += residual * residual;
      });
    }
    return { sum, weight: BigInt((16 + j) ** 2) };
  });
}

describe('dynamic factor', () => {
  it.each([
    'gaussian',
    'heavy-tailed',
    'small integers',
    'subnormal',
    'around FLT_MAX',
    'mixed magnitudes',
  ] as const)('of %s values has an exact error within a thousandth of the least', (kind) => {
    for (let seed = 0; seed < 12; seed++) {
      const values = DATA[kind](128, 1000 + seed);
      const [byte] = macroBytes(values, 'dynamic');
      expect(byte! % 16).toBe(0);
      const errors = exactErrors(values, 32);
      const chosen = errors[byte! / 16]!;
      for (const other of errors) {
        expect(chosen.sum * other.weight * 1000n <= other.sum * chosen.weight * 1001n).toBe(true);
      }
    }
  });

  it('takes the least error exactly, and of equal ones the smaller byte, where the data are small integers', () => {
    let ties = 0;
    for (let seed = 0; seed < 300; seed++) {
      // Few integers only, so that many candidates represent all of them.
      const u = uniform(seed);
      const top = 1 + (seed % 8);
      const values = fill(32, () => Math.floor(u() * (2 * top + 1)) - top);
      const errors = exactErrors(values, 32);
      let best = 0;
      for (let j = 1; j < 16; j++) {
        const left = errors[j]!.sum * errors[best]!.weight;
        const right = errors[best]!.sum * errors[j]!.weight;
        if (left < right) best = j;
        if (left === right) ties++;
      }
      expect(macroBytes(values, 'dynamic', 32), `seed ${seed}`).toEqual([16 * best]);
    }
    expect(ties).toBeGreaterThan(50);
  });

  it('is 0 for data that plain blocks represent, and finds the factor of data divided by one', () => {
    const grid = fill(128, (i) => [6, 0.5, -1, 1.5, -2, 3, 4, 0][i % 8]!);
    expect(macroBytes(grid, 'dynamic')).toEqual([0]);
    for (let j = 1; j < 16; j++) {
      const values = grid.map((x) => x / (1 + j / 16));
      const errors = dynamicErrors(values, [...values.keys()], 128, 32, 1, 'oas');
      const [byte] = macroBytes(values, 'dynamic');
      expect(errors[byte! / 16]!).toBeLessThan(1e-10);
    }
  });

  it('is 0 for zeros of either sign', () => {
    expect(macroBytes(new Float32Array(128).fill(-0), 'dynamic')).toEqual([0]);
  });

  it('costs no more than no factor', () => {
    const values = fill(64 * 128, gaussian(4));
    const q = quantize(values, { rows: 64, cols: 128, format: 'mxfp4', macroScale: 'dynamic' });
    for (let row = 0; row < 64; row++) {
      const errors = dynamicErrors(
        values.subarray(128 * row, 128 * row + 128),
        [...Array(128).keys()],
        128,
        32,
        1,
        'oas',
      );
      expect(errors[q.macroScales![row]! / 16]!).toBeLessThanOrEqual(errors[0]! * 1.001);
    }
  });

  it('gives the same byte whatever the order of rows in a 2d macro block', () => {
    const values = fill(128 * 128, gaussian(6));
    const rows = Array.from({ length: 128 }, (_, row) => values.slice(128 * row, 128 * row + 128));
    // Reversing keeps the blocks of 32 rows together.
    const reversed = Float32Array.from(rows.reverse().flatMap((row) => [...row]));
    const search = new DynamicFactorSearch(128, 128, 32, 32, 'oas');
    const byteOf = (data: Float32Array) =>
      search.factorByte({ data: Float64Array.from(data), start: 0, stride: 128, height: 128, width: 128 });
    expect(byteOf(reversed)).toBe(byteOf(values));
  });
});

describe('ragged macro blocks', () => {
  it('has a shorter last macro block along k', () => {
    const values = fill(2 * 160, gaussian(5));
    const options = { format: 'mxfp4', macroScale: 'dynamic' } as const;
    const q = quantize(values, { ...options, rows: 2, cols: 160 });
    expect(q.macroScales).toHaveLength(4);
    // Each macro block is chosen as if it stood alone.
    for (let row = 0; row < 2; row++) {
      const head = quantize(values.slice(160 * row, 160 * row + 128), { ...options, rows: 1, cols: 128 });
      const tail = quantize(values.slice(160 * row + 128, 160 * row + 160), {
        ...options,
        rows: 1,
        cols: 32,
      });
      expect(q.macroScales![2 * row]).toBe(head.macroScales![0]);
      expect(q.macroScales![2 * row + 1]).toBe(tail.macroScales![0]);
      expect([...q.scales.subarray(5 * row, 5 * row + 5)]).toEqual([...head.scales, ...tail.scales]);
    }
  });
});
