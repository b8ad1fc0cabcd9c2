/**
 * E4M3 ("fn": finite, no Inf), the block scale of NVFP4: sign, four exponent bits (bias 7), three mantissa bits.
 * Max 448 (0x7E), smallest normal 2^-6, smallest subnormal 2^-9, NaN 0x7F and 0xFF.
 * Block scales use the non-negative half only. Source: OCP 8-bit Floating Point Specification (OFP8) v1.0.
 */
import { InvalidArgumentError } from '../errors.js';

export const E4M3_MAX = 448;
export const E4M3_MAX_BYTE = 0x7e;
export const E4M3_NAN = 0x7f;

/** Value of each of the 256 bytes. */
export const E4M3_VALUES: readonly number[] = Array.from({ length: 256 }, (_, byte) => {
  const sign = byte & 0x80 ? -1 : 1;
  const exponent = (byte >> 3) & 15;
  const mantissa = byte & 7;
  if ((byte & 0x7f) === E4M3_NAN) return Number.NaN;
  return sign * (exponent === 0 ? mantissa * 2 ** -9 : (8 + mantissa) * 2 ** (exponent - 10));
});

/** Value of a byte 0..255. */
export function decodeE4M3(byte: number): number {
  if (!(Number.isInteger(byte) && byte >= 0 && byte <= 255)) {
    throw new InvalidArgumentError('formats', `E4M3 byte ${byte} is not an integer in 0..255`);
  }
  return E4M3_VALUES[byte]!;
}

/**
 * Byte of a value, nearest with ties to even; saturates at ±448 (±Inf too), keeps the sign of zero.
 * NaN becomes 0x7F. Values up to and including 2^-10 round to zero.
 */
export function encodeE4M3(value: number): number {
  if (Number.isNaN(value)) return E4M3_NAN;
  const sign = value < 0 || Object.is(value, -0) ? 0x80 : 0;
  const magnitude = Math.abs(value);
  if (magnitude >= E4M3_MAX) return sign | E4M3_MAX_BYTE;
  // The grid step is 2^-9 below 2^-5 (subnormals and the first normal binade) and 2^(e-3) in [2^e, 2^(e+1)).
  let exponent = -6;
  while (magnitude >= 2 ** (exponent + 1)) exponent++;
  const steps = roundHalfEven(magnitude * 2 ** (3 - exponent));
  // Bytes count the grid points in order, so a carry into the next binade needs no case of its own.
  return sign | Math.min((exponent + 6) * 8 + steps, E4M3_MAX_BYTE);
}

function roundHalfEven(x: number): number {
  const floor = Math.floor(x);
  const rest = x - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor;
}
