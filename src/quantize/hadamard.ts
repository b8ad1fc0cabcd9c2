/**
 * The 16-wide random Hadamard transform of NVIDIA's NVFP4 recipe (arXiv 2509.25149, appendix C):
 * each tile of 16 values along a row becomes t · H with H = diag(signs) · H16 / 4, H16 in Sylvester order.
 * H is orthonormal, so rotating both operands of a GEMM along k leaves the product unchanged.
 */
import { InvalidArgumentError } from '../errors.js';

export const HADAMARD_SIZE = 16;

/** The fixed sign vector of TransformerEngine (and torchao). */
export const HADAMARD_SIGNS: readonly number[] = [1, 1, 1, -1, 1, -1, -1, -1, -1, -1, -1, 1, -1, 1, -1, -1];

/**
 * Rotates rows of `cols` values (a multiple of 16); returns a new array. Arithmetic is f32: four butterfly stages
 * with strides 1, 2, 4, 8, every sum rounded, then an exact multiplication by 1/4.
 * @param first number of the first value in the matrix it belongs to, for the message
 * @throws InvalidArgumentError where a sum leaves the range of f32
 */
export function rotate(values: Float32Array, first = 0): Float32Array {
  const out = transform(values, (tile, i, x) => {
    tile[i] = x * HADAMARD_SIGNS[i]!;
  });
  const overflow = out.findIndex((y) => !Number.isFinite(y));
  if (overflow >= 0) {
    const start = first + overflow - (overflow % HADAMARD_SIZE);
    throw new InvalidArgumentError(
      'quantize',
      `the Hadamard rotation of values ${start}..${start + 15} leaves the range of f32; scale the tensor down`,
    );
  }
  return out;
}

/** Inverse of {@link rotate} (up to f32 rounding): t · H16 / 4 · diag(signs). */
export function unrotate(values: Float32Array): Float32Array {
  const out = transform(values, (tile, i, x) => {
    tile[i] = x;
  });
  for (let i = 0; i < out.length; i++) out[i]! *= HADAMARD_SIGNS[i % HADAMARD_SIZE]!;
  return out;
}

function transform(
  values: Float32Array,
  load: (tile: Float32Array, i: number, x: number) => void,
): Float32Array {
  const out = new Float32Array(values.length);
  const tile = new Float32Array(HADAMARD_SIZE);
  for (let start = 0; start < values.length; start += HADAMARD_SIZE) {
    for (let i = 0; i < HADAMARD_SIZE; i++) load(tile, i, values[start + i]!);
    for (let stride = 1; stride < HADAMARD_SIZE; stride *= 2) {
      for (let i = 0; i < HADAMARD_SIZE; i++) {
        if (i & stride) continue;
        const a = tile[i]!;
        const b = tile[i + stride]!;
        tile[i] = a + b;
        tile[i + stride] = a - b;
      }
    }
    for (let i = 0; i < HADAMARD_SIZE; i++) out[start + i] = tile[i]! * 0.25;
  }
  return out;
}
