import { expect, test } from 'vitest';
import { encodeF16, f16Values, fromF16, toF16 } from '../../../src/formats/f16.js';
import { halfToFloat, toHalf } from '../../support/half.js';
import { uniform } from '../../support/random-data.js';

const CODES = Uint16Array.from({ length: 65536 }, (_, code) => code);

test('all 65536 values, and back to their codes', () => {
  const values = f16Values();
  expect(values).toEqual(halfToFloat(CODES));
  expect(fromF16(CODES)).toEqual(values);
  values.forEach((value, code) => {
    if (Number.isNaN(value)) expect(encodeF16(value) & 0x7fff).toBe(0x7e00);
    else expect(encodeF16(value)).toBe(code);
  });
});

test('between neighbours: the nearest one, ties to even', () => {
  const u = uniform(1);
  const between: number[] = [];
  for (let code = 0; code < 0x7c00; code++) {
    const low = f16Values()[code]!;
    const high = code === 0x7bff ? 65536 : f16Values()[code + 1]!;
    const middle = (low + high) / 2;
    for (const value of [
      middle,
      low + (high - low) * u(),
      middle * (1 + 2 ** -20),
      middle * (1 - 2 ** -20),
    ]) {
      between.push(value, -value);
    }
  }
  const values = Float32Array.from(between);
  expect(toF16(values)).toEqual(toHalf(values));
});

test('beyond the range', () => {
  const cases = [65519.996, 65520, 1e30, Number.POSITIVE_INFINITY, 2 ** -25, 2 ** -25 * 1.001, 2 ** -149, -0];
  expect([...toF16(Float32Array.from(cases))]).toEqual([0x7bff, 0x7c00, 0x7c00, 0x7c00, 0, 1, 0, 0x8000]);
});
