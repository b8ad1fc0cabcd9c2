/** The product in f64, and how far a kernel may be from it. */
import { InvalidArgumentError } from '../errors.js';
import { decodeMatrixF64, type QuantizedMatrix } from '../matrix/quantized-matrix.js';
import { rotate } from '../quantize/hadamard.js';

export interface ReferenceProduct {
  /** f64[m, n] */
  readonly y: Float64Array;
  /** sum over k of |x| · |w|, f64[m, n]: what relative rounding errors are relative to. */
  readonly magnitude: Float64Array;
  /** Absolute error that flushing subnormals to zero can add, f64[m, n]. */
  readonly flush: Float64Array;
}

/** x f32[m, k] times the transpose of the dequantized weights, in f64: exact products, sums rounded at 2^-53. */
export function referenceProduct(
  x: Float32Array,
  q: QuantizedMatrix,
  m: number,
  bias?: Float32Array,
): ReferenceProduct {
  const { rows: n, cols: k } = q;
  if (x.length !== m * k)
    throw new InvalidArgumentError('reference', `x has ${x.length} values; [${m}, ${k}] needs ${m * k}`);
  const w = decodeMatrixF64(q);
  const input = q.hadamard ? rotate(x) : x;
  const y = new Float64Array(m * n);
  const magnitude = new Float64Array(m * n);
  const flush = new Float64Array(m * n);
  for (let row = 0; row < m; row++) {
    for (let col = 0; col < n; col++) {
      let sum = 0;
      let size = 0;
      let lost = 0;
      for (let i = row * k, j = col * k; j < (col + 1) * k; i++, j++) {
        const a = input[i]!;
        const b = w[j]!;
        const product = a * b;
        sum += product;
        size += Math.abs(product);
        if (Math.abs(b) < 2 ** -123) lost += Math.abs(product);
        // A product of x and a weight, or of x and a code in units of 2^-14, may be subnormal and count as zero.
        lost += Math.abs(b) * 2 ** -111 + 2 ** -125;
      }
      const at = row * n + col;
      y[at] = sum + (bias ? bias[col]! : 0);
      magnitude[at] = size + Math.abs(bias ? bias[col]! : 0);
      flush[at] = lost;
    }
  }
  return { y, magnitude, flush };
}

/**
 * Largest error a kernel may have at one element: each of `roundings` operations on the longest path of a sum is off
 * by at most one ULP (WGSL leaves the direction open, hence 2^-23 and not 2^-24), a division by 2.5 ULP.
 */
export function errorBound(reference: ReferenceProduct, index: number, roundings: number): number {
  const relative = (roundings + 3) * 2 ** -23;
  return (relative / (1 - relative)) * reference.magnitude[index]! + reference.flush[index]!;
}

/** Columns `cols` of y f32[m, n], f64[m, cols.length]. */
export function pickColumns(y: Float32Array, m: number, n: number, cols: readonly number[]): Float64Array {
  const width = cols.length;
  return Float64Array.from({ length: m * width }, (_, i) => y[Math.floor(i / width) * n + cols[i % width]!]!);
}

/** Largest error of y against the reference in parts of its bound: at most 1 for a right kernel, NaN if any is. */
export function worstError(y: ArrayLike<number>, reference: ReferenceProduct, roundings: number): number {
  let worst = 0;
  for (let i = 0; i < y.length; i++) {
    // Math.max keeps NaN.
    worst = Math.max(worst, Math.abs(y[i]! - reference.y[i]!) / errorBound(reference, i, roundings));
  }
  return worst;
}
