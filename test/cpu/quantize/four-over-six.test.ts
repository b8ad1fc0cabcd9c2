import { describe, expect, it } from 'vitest';
import { unpackE2M1 } from '../../../src/formats/e2m1.js';
import { decodeE4M3, encodeE4M3 } from '../../../src/formats/e4m3.js';
import type { QuantizeOptions } from '../../../src/quantize/options.js';
import { dequantize, quantize } from '../../../src/quantize/quantize.js';
import { fill, gaussian, studentT } from '../../support/random-data.js';
import { nvError, referenceQuantize } from '../../support/reference-quantizer.js';

const METRICS = ['mse', 'mae'] as const;

function quantizeWith(
  values: Float32Array,
  fourOverSixError: 'mae' | 'mse',
  tile: '1d' | '2d' = '1d',
  rows = 1,
) {
  const options: QuantizeOptions = {
    rows,
    cols: values.length / rows,
    format: 'nvfp4',
    scaleRule: 'four-over-six',
    fourOverSixError,
    tile,
  };
  return { q: quantize(values, options), options };
}

/** A claim of bytes that are no candidates, so that the reference decides alone. */
const NO_CLAIM = { scales: new Uint8Array(4096).fill(255) };

/** Exact errors of each block under each of several arrays of scale bytes. */
const blockErrors = (values: Float32Array, scales: Uint8Array[], decode: number, metric: 'mae' | 'mse') =>
  Array.from({ length: values.length / 16 }, (_, block) => {
    const tile = Array.from({ length: 16 }, (_, i) => 16 * block + i);
    return scales.map((bytes) => nvError(values, tile, bytes[block]!, decode, metric));
  });

describe.each(METRICS)('four over six by %s', (metric) => {
  // The tensor maximum 1536 = 6 · 256 gives s_enc = 1, so scales are amax / 6 and amax / 4, rounded to E4M3.
  const withMaximum = (block: number[]) => Float32Array.from([1536, ...Array(15).fill(0), ...block]);

  it('maps the maximum to 4 where that is exact and 6 is not', () => {
    const block = fill(16, (i) => [4, 3, 2, 1.5, 1, 0.5, 0, -3][i % 8]! * 3);
    const { q } = quantizeWith(withMaximum([...block]), metric);
    expect(q.globalScale).toBe(1);
    expect(q.scales[1]).toBe(0x44); // 3
    expect([...dequantize(q).subarray(16)]).toEqual([...block]);
  });

  it('maps it to 6 where that is exact and 4 is not', () => {
    const block = fill(16, (i) => [6, 3, 2, 1.5, 1, 0.5, 0, -4][i % 8]! * 2);
    const { q } = quantizeWith(withMaximum([...block]), metric);
    expect(q.scales[1]).toBe(0x40); // 2
    expect([...dequantize(q).subarray(16)]).toEqual([...block]);
  });

  it('takes 6 on a tie', () => {
    // 12 and 0 are exact both ways: 6 · 2 = 4 · 3.
    const { q } = quantizeWith(withMaximum([12, ...Array(15).fill(0)]), metric);
    expect(q.scales[1]).toBe(0x40);
  });

  it('is never worse than always 6 or always 4, within 0.1 %', () => {
    const values = fill(40 * 96, studentT(1, 4));
    const { q, options } = quantizeWith(values, metric, '1d', 40);
    const best = referenceQuantize(values, options, NO_CLAIM).scales;
    const errors = blockErrors(values, [q.scales, best], q.globalScale, metric);
    for (const [chosen, least] of errors) expect(chosen! <= least! * 1.001).toBe(true);
    // Both candidates win somewhere: the maximum of a block is near 4 or near 6 scales.
    const codes = unpackE2M1(q.codes);
    const fours = [...q.scales.keys()].filter((block) =>
      codes.subarray(16 * block, 16 * block + 16).every((code) => code % 8 !== 7),
    );
    expect(fours.length).toBeGreaterThan(q.scales.length / 10);
    expect(fours.length).toBeLessThan((q.scales.length * 9) / 10);
  });
});

describe('four over six', () => {
  it('compares squared errors by default', () => {
    const values = fill(64 * 64, gaussian(2));
    const options = { rows: 64, cols: 64, format: 'nvfp4', scaleRule: 'four-over-six' } as const;
    const byDefault = quantize(values, options);
    expect(byDefault).toEqual(quantize(values, { ...options, fourOverSixError: 'mse' }));
    expect(byDefault.scales).not.toEqual(quantize(values, { ...options, fourOverSixError: 'mae' }).scales);
  });

  it('has a smaller error than the plain rule on Gaussian data', () => {
    const values = fill(64 * 256, gaussian(3));
    const squared = (scaleRule: 'te' | 'four-over-six') => {
      const approximation = dequantize(quantize(values, { rows: 64, cols: 256, format: 'nvfp4', scaleRule }));
      return values.reduce((sum, x, i) => sum + (x - approximation[i]!) ** 2, 0);
    };
    expect(squared('four-over-six')).toBeLessThan(0.9 * squared('te'));
  });

  it('takes 6 where the multiplier of the elements saturates', () => {
    // So small a tensor that 1 / (S · s_dec) is above f32's range for scales below 1: those blocks map to 6.
    const values = fill(64, gaussian(4)).map((x) => x * 2 ** -128);
    for (const metric of METRICS) {
      const { q } = quantizeWith(values, metric);
      const [encode, decode] = [Math.fround(1 / q.globalScale), q.globalScale];
      for (let block = 0; block < 4; block++) {
        const largest = Math.max(...values.subarray(16 * block, 16 * block + 16).map(Math.abs));
        const six = encodeE4M3(Math.fround(Math.fround(largest / 6) * encode));
        if (six > 0 && 1 / Math.fround(decodeE4M3(six) * decode) >= 2 ** 128)
          expect(q.scales[block]).toBe(six);
      }
    }
  });

  it('sums absolute errors of a 2d tile to within 0.1 %', () => {
    // Scales 1 and 1.5. 253 values just above 3, a grid point of both, whose residuals of 1.2 · 2^-17 are close to a
    // unit of a 16-bit residual, and one value that makes scale 1 the better one by 0.3 %.
    const tile = fill(256, () => 3 + 1.2 * 2 ** -17);
    tile.set([6, 3.49, 2.125 - 0.0009]);
    const values = new Float32Array(16 * 32);
    for (let row = 0; row < 16; row++) values.set(tile.subarray(16 * row, 16 * row + 16), 32 * row + 16);
    values[0] = 1536;
    const { q } = quantizeWith(values, 'mae', '2d', 16);
    expect(q.globalScale).toBe(1);
    const [chosen, six, four] = [q.scales[1]!, 0x38, 0x3c].map((byte) =>
      nvError(tile, [...tile.keys()], byte, 1, 'mae'),
    );
    expect(six! < four!).toBe(true);
    expect(chosen! <= six! * 1.001, `chose ${chosen} of ${six} and ${four}`).toBe(true);
  });
});
