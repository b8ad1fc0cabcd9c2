/** f16 (IEEE binary16), which not every host has arrays of. */
import { f32ToBits } from './bits.js';
import { ieeeValues } from './ieee.js';

/** 256 KiB, so made when first needed. */
let values: Float32Array | undefined;

/** The value of each of the 65536 codes. */
export function f16Values(): Float32Array {
  values ??= ieeeValues(5, 10);
  return values;
}

/** Code of the f16 nearest to a number in f32, ties to even; Inf from 65520 on. */
export function encodeF16(value: number): number {
  const bits = f32ToBits(value);
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  if (magnitude >= 0x38800000) {
    // Normal: thirteen bits are rounded off, and the exponent's bias goes from 127 to 15.
    return sign | ((magnitude + 0xfff + ((magnitude >>> 13) & 1) - 0x38000000) >>> 13);
  }
  // Subnormal: adding 2^28 leaves an f64's last bit at 2^-24, the step of subnormals, and rounds to it.
  return sign | ((Math.abs(value) + 2 ** 28 - 2 ** 28) * 2 ** 24);
}

/** A copy of values in f16. */
export function toF16(from: Float32Array): Uint16Array<ArrayBuffer> {
  return Uint16Array.from(from, encodeF16);
}

/** A copy of codes in f32, exact. */
export function fromF16(codes: Uint16Array): Float32Array<ArrayBuffer> {
  const table = f16Values();
  return Float32Array.from(codes, (code) => table[code]!);
}
