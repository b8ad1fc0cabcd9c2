import { describe, expect, it } from 'vitest';
import { InvalidArgumentError } from '../../../src/errors.js';
import { decodeE0M8, E0M8_INVERSES, encodeE0M8 } from '../../../src/formats/e0m8.js';
import { neighbour64, roundToF32 } from '../../support/exact.js';

describe('E0M8', () => {
  it('decodes all 256 bytes', () => {
    // By adding 1/256 up: every sum is exact.
    let factor = 1;
    for (let byte = 0; byte < 256; byte++, factor += 0.00390625) expect(decodeE0M8(byte)).toBe(factor);
    expect(factor).toBe(2);
  });

  it('inverts every factor, rounded to f32 once', () => {
    for (let byte = 0; byte < 256; byte++) {
      expect(E0M8_INVERSES[byte]).toBe(roundToF32({ num: 256n, den: 256n + BigInt(byte) }));
    }
  });

  it('encodes every factor to its own byte and truncates what lies between', () => {
    for (let byte = 0; byte < 256; byte++) {
      const factor = (256 + byte) / 256;
      expect(encodeE0M8(factor)).toBe(byte);
      expect(encodeE0M8(neighbour64(factor, 1))).toBe(byte);
      expect(encodeE0M8(neighbour64(factor + 1 / 256, -1))).toBe(byte);
    }
  });

  it.each([0, 0.999, 2, -1, Infinity, Number.NaN])('refuses the factor %s', (value) => {
    expect(() => encodeE0M8(value)).toThrow(
      new InvalidArgumentError('formats', `${value} is outside E0M8's [1, 2)`),
    );
  });

  it.each([-1, 256, 0.5, Number.NaN])('refuses %s as a byte', (byte) => {
    expect(() => decodeE0M8(byte)).toThrow(
      new InvalidArgumentError('formats', `E0M8 byte ${byte} is not an integer in 0..255`),
    );
  });
});
