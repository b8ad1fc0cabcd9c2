import { describe, expect, it } from 'vitest';
import { InvalidArgumentError } from '../../../src/errors.js';
import { f32FromBits, f32ToBits } from '../../../src/formats/bits.js';
import {
  decodeE2M1,
  E2M1_VALUES,
  encodeE2M1,
  magnitudeCode,
  nearestMagnitude,
  packE2M1,
  unpackE2M1,
} from '../../../src/formats/e2m1.js';
import { neighbour32, neighbour64 } from '../../support/exact.js';
import { nearestCode } from '../../support/reference-quantizer.js';

// By hand from the format's fields: sign, exponent (bias 1), mantissa.
const TABLE = [0, 0.5, 1, 1.5, 2, 3, 4, 6, -0, -0.5, -1, -1.5, -2, -3, -4, -6];

/** [midpoint, code below, code above, code of the tie] */
const MIDPOINTS: [number, number, number, number][] = [
  [0.25, 0, 1, 0],
  [0.75, 1, 2, 2],
  [1.25, 2, 3, 2],
  [1.75, 3, 4, 4],
  [2.5, 4, 5, 4],
  [3.5, 5, 6, 6],
  [5, 6, 7, 6],
];

/** Value after encoding; ±0 told apart. */
const round = (value: number) => decodeE2M1(encodeE2M1(value));

describe('E2M1', () => {
  it('decodes all 16 codes', () => {
    // `Object.is` semantics: code 8 must be -0.
    for (let code = 0; code < 16; code++) expect(decodeE2M1(code)).toBe(TABLE[code]);
    expect(E2M1_VALUES).toEqual(TABLE);
  });

  it('encodes every value to its own code, zeros with their sign', () => {
    for (let code = 0; code < 16; code++) expect(encodeE2M1(TABLE[code]!)).toBe(code);
  });

  it.each(MIDPOINTS)('rounds around the midpoint %s', (midpoint, below, above, tie) => {
    for (const neighbour of [neighbour32, neighbour64]) {
      expect(encodeE2M1(midpoint)).toBe(tie);
      expect(encodeE2M1(neighbour(midpoint, -1))).toBe(below);
      expect(encodeE2M1(neighbour(midpoint, 1))).toBe(above);
      expect(encodeE2M1(-midpoint)).toBe(tie + 8);
      expect(encodeE2M1(-neighbour(midpoint, -1))).toBe(below + 8);
      expect(encodeE2M1(-neighbour(midpoint, 1))).toBe(above + 8);
    }
  });

  it('saturates at ±6', () => {
    for (const large of [
      6,
      neighbour64(6, 1),
      7,
      8,
      1e6,
      2 ** 31,
      2 ** 32 + 1,
      2 ** 128,
      Number.MAX_VALUE,
      Infinity,
    ]) {
      expect(encodeE2M1(large)).toBe(7);
      expect(encodeE2M1(-large)).toBe(15);
    }
  });

  it('flushes subnormals of f32 and f64 to a zero of their sign', () => {
    for (const tiny of [2 ** -126, neighbour32(2 ** -126, -1), 2 ** -149, 2 ** -1022, Number.MIN_VALUE]) {
      expect(encodeE2M1(tiny)).toBe(0);
      expect(encodeE2M1(-tiny)).toBe(8);
    }
  });

  it('has no code for NaN', () => {
    expect(() => encodeE2M1(Number.NaN)).toThrow(new InvalidArgumentError('formats', 'NaN has no E2M1 code'));
  });

  it.each([-1, 16, 1.5, Number.NaN, Infinity])('refuses %s as a code', (code) => {
    expect(() => decodeE2M1(code)).toThrow(InvalidArgumentError);
    expect(() => decodeE2M1(code)).toThrow(`formats: E2M1 code ${code} is not an integer in 0..15`);
  });

  it('rounds all 65536 bf16 values like a search through all codes', () => {
    let wrong = 0;
    let compared = 0;
    for (let pattern = 0; pattern < 65536; pattern++) {
      const value = f32FromBits(pattern * 65536);
      if (Number.isNaN(value)) continue;
      compared++;
      const expected = nearestCode(Math.abs(value)) + (pattern >= 0x8000 ? 8 : 0);
      if (encodeE2M1(value) !== expected) wrong++;
      if (magnitudeCode(Math.abs(value)) !== expected % 8) wrong++;
      if (nearestMagnitude(Math.abs(value)) !== TABLE[expected % 8]) wrong++;
    }
    expect(wrong).toBe(0);
    // Two signs of 127 NaNs are left out.
    expect(compared).toBe(65536 - 2 * 127);
  });

  it('rounds every f32 within 64 steps of a grid point or midpoint like a search through all codes', () => {
    let wrong = 0;
    for (const centre of [...TABLE.slice(1, 8), ...MIDPOINTS.map(([midpoint]) => midpoint), 2 ** -126]) {
      for (let step = -64; step <= 64; step++) {
        const value = f32FromBits(f32ToBits(centre) + step);
        if (encodeE2M1(value) !== nearestCode(value)) wrong++;
      }
    }
    expect(wrong).toBe(0);
  });

  it('agrees with the cast tests of ONNX', () => {
    // Inputs of FLOAT -> FLOAT4E2M1; ONNX makes NaN a 6, this library an error.
    const inputs = [0.48, 0.25, 1.05, -3.5, -8, 9, 1e6, 1e-7, Infinity, -Infinity, -4, 0.01, -0];
    expect(inputs.map(round)).toEqual([0.5, 0, 1, -4, -6, 6, 6, 0, 6, -6, -4, 0, -0]);
  });

  it('agrees with the quantizelinear test of ONNX', () => {
    const x = [0, 2.5, 4.8, 8.6, -30, -20, 6, 9, -0, -2.5, -4.8, -8.6];
    const scales = [2, 3, 4];
    const y = x.map((value, i) => round(value / scales[Math.floor(i / 4)]!));
    expect(y).toEqual([0, 1, 2, 4, -6, -6, 2, 3, -0, -0.5, -1, -2]);
  });

  it('agrees with the MXFP4 test of Triton', () => {
    const x = [6, 0, 0.24, 0.25, 0.75, 0.99, 1.2, 1.3, -1.25, neighbour32(0.25, 1)];
    expect(x.map(round)).toEqual([6, 0, 0, 0, 1, 1, 1, 1.5, -1, 0.5]);
  });
});

describe('packing', () => {
  it('puts the even element in the low nibble (bytes of the test of torchao)', () => {
    const codes = Uint8Array.from([0, 0.5, 4, -0, -0, 1, -6, 3], encodeE2M1);
    expect([...packE2M1(codes)]).toEqual([0b00010000, 0b10000110, 0b00101000, 0b01011111]);
  });

  it('unpacks all 256 bytes, and packs them again', () => {
    const bytes = Uint8Array.from({ length: 256 }, (_, i) => i);
    const codes = unpackE2M1(bytes);
    expect(codes).toHaveLength(512);
    for (let byte = 0; byte < 256; byte++) {
      expect(codes[2 * byte]).toBe(byte % 16);
      expect(codes[2 * byte + 1]).toBe(Math.floor(byte / 16));
    }
    expect(packE2M1(codes)).toEqual(bytes);
  });

  it('leaves the high nibble of an odd last code zero', () => {
    expect([...packE2M1(Uint8Array.of(1, 2, 15))]).toEqual([0x21, 0x0f]);
    expect([...unpackE2M1(Uint8Array.of(0x21, 0x0f), 3)]).toEqual([1, 2, 15]);
    expect(packE2M1(new Uint8Array(0))).toHaveLength(0);
    expect(unpackE2M1(new Uint8Array(0))).toHaveLength(0);
  });

  it.each([5, -1, 1.5, Number.NaN])('refuses to unpack %s codes from two bytes', (count) => {
    expect(() => unpackE2M1(new Uint8Array(2), count)).toThrow(
      new InvalidArgumentError('formats', `2 bytes do not hold ${count} E2M1 codes`),
    );
  });
});
