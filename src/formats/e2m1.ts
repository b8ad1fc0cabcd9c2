/**
 * E2M1, the 4-bit float of MXFP4 and NVFP4: sign, two exponent bits (bias 1), one mantissa bit.
 * No Inf, no NaN; codes 8..15 are the negatives of 0..7, so code 8 is -0.
 * Source: OCP Microscaling Formats (MX) v1.0, section 5.3.3.
 */
import { InvalidArgumentError } from '../errors.js';

/** Value of each of the 16 codes. */
export const E2M1_VALUES: readonly number[] = [
  0, 0.5, 1, 1.5, 2, 3, 4, 6, -0, -0.5, -1, -1.5, -2, -3, -4, -6,
];

/** Largest magnitude. */
export const E2M1_MAX = 6;

/** Exponent of the largest power of two, 4 = 2^2 (`emax` in the MX specification). */
export const E2M1_EMAX = 2;

/** Value of a code 0..15. */
export function decodeE2M1(code: number): number {
  if (!(Number.isInteger(code) && code >= 0 && code <= 15)) {
    throw new InvalidArgumentError('formats', `E2M1 code ${code} is not an integer in 0..15`);
  }
  return E2M1_VALUES[code]!;
}

// Adding and subtracting 1.5 · 2^52 steps rounds an f64 to a multiple of the step, ties to even multiples, which here
// are the even codes. The step is 0.5 below 2, 1 below 4 and 2 above; indexed by the magnitude's integer part.
const ROUNDER = Float64Array.from([0.5, 0.5, 1, 1, 2, 2, 2], (step) => 1.5 * 2 ** 52 * step);
// Code of a grid value, indexed by the doubled value.
const CODE_OF_DOUBLED = Uint8Array.of(0, 1, 2, 3, 4, 0, 5, 0, 6, 0, 0, 0, 7);

/**
 * Grid value nearest to a magnitude, ties to the even code, saturating at 6 (+Inf too). The seven midpoints
 * 0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5 go to 0, 1, 1, 2, 2, 4, 4.
 * Hot path of every quantizer, hence without branches and without checks: not for NaN or negative magnitudes.
 */
export function nearestMagnitude(magnitude: number): number {
  const m = Math.min(magnitude, E2M1_MAX);
  const rounder = ROUNDER[m | 0]!;
  return m + rounder - rounder;
}

/** Code 0..7 of {@link nearestMagnitude}. */
export function magnitudeCode(magnitude: number): number {
  return CODE_OF_DOUBLED[2 * nearestMagnitude(magnitude)]!;
}

/**
 * Code of a value, nearest with ties to the even code; saturates at ±6, keeps the sign of zero.
 * @throws InvalidArgumentError for NaN, which E2M1 cannot hold
 */
export function encodeE2M1(value: number): number {
  if (Number.isNaN(value)) throw new InvalidArgumentError('formats', 'NaN has no E2M1 code');
  const sign = value < 0 || Object.is(value, -0) ? 8 : 0;
  return sign | magnitudeCode(Math.abs(value));
}

/** Packs codes two a byte, element 2i in the low nibble. An odd last code leaves a zero high nibble. */
export function packE2M1(codes: Uint8Array): Uint8Array {
  const bytes = new Uint8Array((codes.length + 1) >> 1);
  for (let i = 0; i < codes.length; i++) bytes[i >> 1]! |= (codes[i]! & 15) << ((i & 1) * 4);
  return bytes;
}

/** Inverse of {@link packE2M1}: `count` codes, one a byte. */
export function unpackE2M1(bytes: Uint8Array, count: number = bytes.length * 2): Uint8Array {
  if (!(Number.isInteger(count) && count >= 0 && count <= bytes.length * 2)) {
    throw new InvalidArgumentError('formats', `${bytes.length} bytes do not hold ${count} E2M1 codes`);
  }
  const codes = new Uint8Array(count);
  for (let i = 0; i < count; i++) codes[i] = (bytes[i >> 1]! >> ((i & 1) * 4)) & 15;
  return codes;
}
