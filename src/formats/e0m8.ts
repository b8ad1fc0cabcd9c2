/**
 * E0M8, the mantissa-only macro-block factor of Macro Block Scaling: f = 1 + byte/256, in [1, 2).
 * Source: Chhugani et al., "Unveiling the Potential of Quantization with MXFP4" (arXiv 2603.08713), section 4.3.
 */
import { InvalidArgumentError } from '../errors.js';

/** Factor of a byte 0..255, exact. */
export function decodeE0M8(byte: number): number {
  if (!(Number.isInteger(byte) && byte >= 0 && byte <= 255)) {
    throw new InvalidArgumentError('formats', `E0M8 byte ${byte} is not an integer in 0..255`);
  }
  return 1 + byte / 256;
}

/** fl32(1/f) of each byte: what dequantization multiplies by. */
export const E0M8_INVERSES: Float32Array = Float32Array.from(
  { length: 256 },
  (_, byte) => 256 / (256 + byte),
);

/**
 * Byte of a factor, truncated: the largest f = 1 + byte/256 that is at most `value`.
 * @throws InvalidArgumentError outside [1, 2)
 */
export function encodeE0M8(value: number): number {
  if (!(value >= 1 && value < 2))
    throw new InvalidArgumentError('formats', `${value} is outside E0M8's [1, 2)`);
  return Math.floor((value - 1) * 256);
}
