import { describe, expect, it } from 'vitest';
import { f32FromBits, f32ToBits } from '../../../src/formats/bits.js';
import { FORMATS, MACRO_SIZES } from '../../../src/formats/formats.js';

describe('FORMATS', () => {
  it('describes the two block formats', () => {
    expect(FORMATS.mxfp4).toEqual({
      blockSizes: [32, 16],
      defaultBlockSize: 32,
      elementBits: 4,
      scaleBits: 8,
      scaleFormat: 'e8m0',
      maxScaleByte: 254,
    });
    expect(FORMATS.nvfp4).toEqual({
      blockSizes: [16],
      defaultBlockSize: 16,
      elementBits: 4,
      scaleBits: 8,
      scaleFormat: 'e4m3',
      maxScaleByte: 126,
    });
    expect(MACRO_SIZES).toEqual([128, 64, 32]);
  });
});

describe('f32 bits', () => {
  it.each([
    [0, 0],
    [-0, 0x80000000],
    [1, 0x3f800000],
    [-2, 0xc0000000],
    [2 ** -149, 1],
    [2 ** -126, 0x00800000],
    [3.4028234663852886e38, 0x7f7fffff],
    [Infinity, 0x7f800000],
  ])('%s has the pattern %s', (value, pattern) => {
    expect(f32ToBits(value)).toBe(pattern);
    expect(f32FromBits(pattern)).toBe(value);
  });

  it('rounds to f32 first, ties to even', () => {
    expect(f32ToBits(1 + 2 ** -24)).toBe(0x3f800000);
    expect(f32ToBits(1 + 3 * 2 ** -24)).toBe(0x3f800002);
  });
});
