import { describe, expect, it } from 'vitest';
import { unpackE2M1 } from '../../../src/formats/e2m1.js';
import type { QuantizedMatrix } from '../../../src/matrix/quantized-matrix.js';
import { dequantize, quantize } from '../../../src/quantize/quantize.js';
import { expectMatchesReference } from '../../support/bytes.js';
import { neighbour32 } from '../../support/exact.js';
import { FLOAT_MAX, fill, gaussian, uniform } from '../../support/random-data.js';

const padded = (...blocks: number[][]): Float32Array =>
  Float32Array.from(blocks.flatMap((block) => [...block, ...Array(16 - block.length).fill(0)]));

const nv = (values: Float32Array, rows = 1): QuantizedMatrix =>
  quantize(values, { rows, cols: values.length / rows, format: 'nvfp4' });

const codesOf = (q: QuantizedMatrix): number[] => [...unpackE2M1(q.codes)];

describe('worked NVFP4 vectors', () => {
  it('two blocks of different size', () => {
    const q = nv(padded([0.9, -0.1, 0.02, 3.5], [0.05, 0.01, -0.03, 0.002]));
    expect(q.globalScale).toBe(Math.fround(1 / 768));
    expect([...q.scales]).toEqual([0x7e, 0x4d]);
    expect(codesOf(q).slice(0, 4)).toEqual([3, 8, 0, 7]);
    expect(codesOf(q).slice(16, 20)).toEqual([7, 2, 14, 0]);
    const values = dequantize(q);
    expect([...values.subarray(0, 4)]).toEqual([0.875, -0, 0, 3.5]);
    expect([...values.subarray(16, 20)]).toEqual([0.05078125, 0.008463542, -0.033854168, 0].map(Math.fround));
    // What is not listed is zero.
    expect(codesOf(q).filter((code) => code === 0)).toHaveLength(12 + 12 + 2);
  });

  it('0, 1, …, 15', () => {
    const q = nv(fill(16, (i) => i));
    expect(q.globalScale).toBe(Math.fround(1 / Math.fround(179.2)));
    expect([...q.scales]).toEqual([0x7e]);
    expect(codesOf(q)).toEqual([0, 1, 2, 2, 3, 4, 4, 5, 5, 6, 6, 6, 6, 7, 7, 7]);
    expect([...dequantize(q)]).toEqual([0, 1.25, 2.5, 2.5, 3.75, 5, 5, 7.5, 7.5, 10, 10, 10, 10, 15, 15, 15]);
  });

  it('zeros', () => {
    for (const zero of [0, -0]) {
      const q = nv(new Float32Array(16).fill(zero));
      expect(q.globalScale).toBe(1);
      expect([...q.scales]).toEqual([0]);
      expect(codesOf(q)).toEqual(Array(16).fill(0));
    }
  });

  it('a zero block in a tensor that is not zero', () => {
    const q = nv(padded([-0, 0, -0], [1, -0]));
    expect(q.scales[0]).toBe(0);
    expect(codesOf(q).slice(0, 16)).toEqual(Array(16).fill(0));
    // In a block that is not zero, -0 keeps its sign.
    expect(codesOf(q).slice(16, 19)).toEqual([7, 8, 0]);
  });

  it('every element FLT_MAX', () => {
    const q = nv(new Float32Array(32).fill(FLOAT_MAX));
    expect(q.globalScale).toBe(Math.fround(1 / Math.fround(2688 / FLOAT_MAX)));
    expect([...q.scales]).toEqual([0x7e, 0x7e]);
    expect([...q.codes]).toEqual(Array(16).fill(0x77));
  });
});

describe('NVFP4 block scales', () => {
  it('underflow to byte 0 with codes 0, at 2^-10 of the smallest scale step', () => {
    // Tensor maximum 2688: s_enc = 1, so a block's scale is amax / 6, in steps of 2^-9.
    for (const [amax, byte, code] of [
      [2 ** -13, 0, 0],
      [6 * 2 ** -11, 0, 0],
      [6 * 2 ** -10, 0, 0],
      // One step above the tie the scale is 2^-9, twice as large as wanted: the maximum lands on 3.
      [neighbour32(6 * 2 ** -10, 1), 1, 5],
      [6 * 2 ** -9, 1, 7],
      [6 * 448, 0x7e, 7],
    ] as const) {
      const q = nv(padded([2688], [amax, -amax]));
      expect(q.globalScale).toBe(1);
      expect(q.scales[1], `${amax}`).toBe(byte);
      expect(codesOf(q).slice(16, 18), `${amax}`).toEqual([code, code && code + 8]);
    }
  });

  it('round to nearest, so that a maximum may clip', () => {
    // Scale 17 ties to 16; the maximum 6 · 17 becomes 6 · 16.
    const q = nv(padded([2688], [6 * 17]));
    expect(q.scales[1]).toBe(0x58);
    expect(dequantize(q)[16]).toBe(6 * 16);
    expect(nv(padded([2688], [6 * 19])).scales[1]).toBe(0x5a);
  });

  it('take every byte from 0 to 0x7E', () => {
    const u = uniform(1);
    const values = fill(512 * 16, (i) => (i % 16 === 0 ? 1 : u() - 0.5) * 2 ** (-Math.floor(i / 16) / 26));
    const q = nv(values);
    expect(new Set(q.scales).size).toBe(127);
    expectMatchesReference(q, values, { rows: 1, cols: values.length, format: 'nvfp4' }, 'all bytes');
  });

  it('follow f32 steps where the tensor is so small that s_enc would overflow', () => {
    for (const amax of [2 ** -117, 2 ** -116, 2688 / FLOAT_MAX, 2 ** -126, 2 ** -140, 2 ** -149]) {
      const values = padded([amax, -amax], [amax / 2, amax / 8]);
      expectMatchesReference(nv(values), values, { rows: 1, cols: 32, format: 'nvfp4' }, `${amax}`);
    }
  });

  it('match the reference on many random tensors', () => {
    for (let seed = 0; seed < 150; seed++) {
      const u = uniform(seed);
      const draw = gaussian(seed);
      const spread = u() * 30;
      const centre = u() * 200 - 100;
      const values = fill(96, () => draw() * 2 ** (centre + u() * spread));
      expectMatchesReference(nv(values, 2), values, { rows: 2, cols: 48, format: 'nvfp4' }, `seed ${seed}`);
    }
  });
});
