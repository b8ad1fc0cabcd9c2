import { describe, expect, it } from 'vitest';
import { InvalidArgumentError } from '../../../src/errors.js';
import { f32FromBits } from '../../../src/formats/bits.js';
import { decodeE8M0, encodeE8M0 } from '../../../src/formats/e8m0.js';
import { neighbour32 } from '../../support/exact.js';
import { FLOAT_MAX } from '../../support/random-data.js';

const ROUNDINGS = ['down', 'nearest', 'up'] as const;

/** Byte by its definition: powers of two around the value, compared in exact f64 arithmetic. */
function referenceByte(value: number, rounding: (typeof ROUNDINGS)[number]): number {
  let byte = 0;
  while (byte < 254 && 2 ** (byte + 1 - 127) <= value) byte++;
  const low = 2 ** (byte - 127);
  if (byte === 254 || value <= low) return byte;
  if (rounding === 'down') return byte;
  return rounding === 'up' || value >= 1.5 * low ? byte + 1 : byte;
}

describe('E8M0', () => {
  it('decodes all 256 bytes', () => {
    // By doubling from 2^-127 on.
    let value = 5.877471754111438e-39;
    for (let byte = 0; byte < 255; byte++, value *= 2) expect(decodeE8M0(byte)).toBe(value);
    expect(value).toBe(2 ** 128);
    expect(decodeE8M0(127)).toBe(1);
    expect(decodeE8M0(255)).toBeNaN();
  });

  it.each(ROUNDINGS)('encodes every power of two to its own byte, rounding %s', (rounding) => {
    for (let byte = 0; byte < 255; byte++) expect(encodeE8M0(decodeE8M0(byte), rounding)).toBe(byte);
  });

  it.each(ROUNDINGS)('rounds %s by its definition, subnormals included', (rounding) => {
    for (let p = -149; p <= 127; p++) {
      for (const mantissa of [1, 1.25, 1.5, 1.75]) {
        const centre = Math.fround(mantissa * 2 ** p);
        for (const value of [centre, neighbour32(centre, -1), neighbour32(centre, 1)]) {
          expect(encodeE8M0(value, rounding), `${value}`).toBe(referenceByte(value, rounding));
        }
      }
    }
  });

  it('agrees with the E8M0 rounding tests of ONNX', () => {
    const x = [1, 1.125, 1.25, 1.375, 1.5, 1.75];
    expect(x.map((value) => encodeE8M0(value, 'up'))).toEqual([127, 128, 128, 128, 128, 128]);
    expect(x.map((value) => encodeE8M0(value, 'down'))).toEqual([127, 127, 127, 127, 127, 127]);
    expect(x.map((value) => encodeE8M0(value, 'nearest'))).toEqual([127, 127, 127, 127, 128, 128]);
    expect(encodeE8M0(1.5 * 2 ** 127, 'up')).toBe(254);
  });

  it.each(ROUNDINGS)('saturates at both ends, rounding %s', (rounding) => {
    for (const value of [0, -0, 2 ** -149, 2 ** -128]) expect(encodeE8M0(value, rounding)).toBe(0);
    expect(encodeE8M0(FLOAT_MAX, rounding)).toBe(254);
  });

  it.each(ROUNDINGS)('makes NaN and Inf the NaN byte, rounding %s', (rounding) => {
    expect(encodeE8M0(Number.NaN, rounding)).toBe(255);
    expect(encodeE8M0(f32FromBits(0xffc00001), rounding)).toBe(255);
    expect(encodeE8M0(Infinity, rounding)).toBe(255);
  });

  it.each([-1, -(2 ** -149), -Infinity])('refuses the negative value %s', (value) => {
    expect(() => encodeE8M0(value, 'up')).toThrow(
      new InvalidArgumentError('formats', `${value} is negative; E8M0 has no sign`),
    );
  });

  it.each([-1, 256, 0.5, Number.NaN])('refuses %s as a byte', (byte) => {
    expect(() => decodeE8M0(byte)).toThrow(
      new InvalidArgumentError('formats', `E8M0 byte ${byte} is not an integer in 0..255`),
    );
  });
});
