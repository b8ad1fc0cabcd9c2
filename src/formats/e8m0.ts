/**
 * E8M0, the power-of-two block scale of the MX formats: value = 2^(byte - 127), byte 255 = NaN.
 * No sign, no zero, no Inf. Source: OCP Microscaling Formats (MX) v1.0, section 5.4.1.
 */
import { InvalidArgumentError } from '../errors.js';
import { floorLog2 } from './bits.js';

export const E8M0_BIAS = 127;
/** Largest byte that is a number, 2^127. */
export const E8M0_MAX_BYTE = 254;
export const E8M0_NAN = 255;

/** Value of a byte 0..255. The values 2^-127 .. 2^127 and NaN are all exact in f64 and in f32. */
export function decodeE8M0(byte: number): number {
  if (!(Number.isInteger(byte) && byte >= 0 && byte <= 255)) {
    throw new InvalidArgumentError('formats', `E8M0 byte ${byte} is not an integer in 0..255`);
  }
  return byte === E8M0_NAN ? Number.NaN : 2 ** (byte - E8M0_BIAS);
}

/**
 * Byte of a non-negative value, rounded to a power of two: `down`, `up`, or `nearest` (1.5 · 2^e goes up).
 * Saturates at 2^-127 (zero too) and at 2^127; NaN and Inf become the NaN byte.
 * @throws InvalidArgumentError for negative values
 */
export function encodeE8M0(value: number, rounding: 'nearest' | 'up' | 'down'): number {
  if (value < 0) throw new InvalidArgumentError('formats', `${value} is negative; E8M0 has no sign`);
  if (!Number.isFinite(value)) return E8M0_NAN;
  if (value < 2 ** -127) return 0;
  const exponent = floorLog2(value);
  const mantissa = value * 2 ** -exponent;
  const up = rounding === 'up' ? mantissa > 1 : rounding === 'nearest' && mantissa >= 1.5;
  return Math.min(exponent + (up ? 1 : 0) + E8M0_BIAS, E8M0_MAX_BYTE);
}
