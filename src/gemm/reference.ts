/** The product in f64, and how far a kernel may be from it. */
import { InvalidArgumentError } from '../errors.js';
import { decodeE4M3 } from '../formats/e4m3.js';
import { decodeE8M0 } from '../formats/e8m0.js';
import { decodeMatrixF64, type QuantizedMatrix } from '../matrix/quantized-matrix.js';
import { rotate } from '../quantize/hadamard.js';
import { dequantize, quantize } from '../quantize/quantize.js';
import { activationSpec } from './activations.js';
import type { ErrorModel } from './kernels/index.js';
import type { GemmProblem } from './problem.js';

export interface ReferenceProduct {
  /** f64[m, n] */
  readonly y: Float64Array;
  /** sum over k of |x| · |w|, f64[m, n]: what relative rounding errors are relative to. */
  readonly magnitude: Float64Array;
  /** Absolute error that flushing subnormals to zero can add, f64[m, n]. */
  readonly flush: Float64Array;
  readonly n: number;
  readonly k: number;
  /** Largest |x| and sum of |x| of each row, f64[m]. */
  readonly xMax: Float64Array;
  readonly xSum: Float64Array;
  /** Six times the largest block scale, and sum of |w|, of each row of w, f64[n]. */
  readonly wMax: Float64Array;
  readonly wSum: Float64Array;
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
  const [xMax, xSum] = rowSizes(input, m, k);
  const [, wSum] = rowSizes(w, n, k);
  return { y, magnitude, flush, n, k, xMax, xSum, wMax: largestValues(q), wSum };
}

/** The x that kernels multiply, f32[m, k]: in FP4 what the bytes of `quantize` stand for, otherwise x itself. */
export function activationReference(
  x: Float32Array,
  { m, k, activations }: Pick<GemmProblem, 'm' | 'k' | 'activations'>,
): Float32Array {
  return activations.kind === 'mxfp4' || activations.kind === 'nvfp4'
    ? dequantize(quantize(x, activationSpec(activations, m, k)))
    : x;
}

/**
 * {@link referenceProduct} for a problem's activations. FP4 is a part of the problem, so its noise is in the reference;
 * that of int8 is in the kernels' {@link ErrorModel}.
 */
export function problemReference(
  x: Float32Array,
  q: QuantizedMatrix,
  problem: Pick<GemmProblem, 'm' | 'k' | 'activations'>,
  bias?: Float32Array,
): ReferenceProduct {
  // x is rotated before it is quantized.
  const input = activationReference(q.hadamard ? rotate(x) : x, problem);
  return referenceProduct(input, { ...q, hadamard: false }, problem.m, bias);
}

/** The reference of `y += product`: adds what y held before, [m, n], and its size. */
export function addBefore(reference: ReferenceProduct, before: ArrayLike<number>): void {
  for (let i = 0; i < before.length; i++) {
    reference.y[i]! += before[i]!;
    reference.magnitude[i]! += Math.abs(before[i]!);
  }
}

/** Largest and summed magnitudes of the rows of a matrix. */
function rowSizes(values: ArrayLike<number>, rows: number, cols: number): [Float64Array, Float64Array] {
  const largest = new Float64Array(rows);
  const sum = new Float64Array(rows);
  for (let i = 0; i < rows * cols; i++) {
    const row = Math.floor(i / cols);
    const size = Math.abs(values[i]!);
    largest[row] = Math.max(largest[row]!, size);
    sum[row]! += size;
  }
  return [largest, sum];
}

/** The largest value that each row of w could hold with its block scales; macro factors only make values smaller. */
function largestValues({ format, rows, scales, globalScale }: QuantizedMatrix): Float64Array {
  const perRow = scales.length / rows;
  const decode = format === 'mxfp4' ? decodeE8M0 : decodeE4M3;
  return Float64Array.from({ length: rows }, (_, row) => {
    const bytes = scales.subarray(row * perRow, (row + 1) * perRow);
    return 6 * decode(bytes.reduce((a, b) => Math.max(a, b))) * globalScale;
  });
}

/**
 * Largest error a kernel may have at one element, see {@link ErrorModel}: each of `roundings` operations on the longest
 * path of a sum is off by at most one ULP (WGSL leaves the direction open, hence 2^-23 and not 2^-24), a division by
 * 2.5 ULP. With y in f16, its rounding comes on top.
 */
export function errorBound(
  reference: ReferenceProduct,
  index: number,
  { roundings, relative = 0, xStep = 0, wStep = 0 }: ErrorModel,
  y: 'f32' | 'f16' = 'f32',
): number {
  const { n, k, xMax, xSum, wMax, wSum } = reference;
  const row = Math.floor(index / n);
  const col = index % n;
  const rounding = (roundings + 3) * 2 ** -23 + relative;
  const x = xStep * xMax[row]!;
  const w = wStep * wMax[col]!;
  const bound =
    (rounding / (1 - rounding)) * reference.magnitude[index]! +
    reference.flush[index]! +
    x * wSum[col]! +
    w * xSum[row]! +
    x * w * k;
  return y === 'f32' ? bound : bound + (Math.abs(reference.y[index]!) + bound) * 2 ** -10 + 2 ** -24;
}

/** Columns `cols` of y f32[m, n], f64[m, cols.length]. */
export function pickColumns(y: Float32Array, m: number, n: number, cols: readonly number[]): Float64Array {
  const width = cols.length;
  return Float64Array.from({ length: m * width }, (_, i) => y[Math.floor(i / width) * n + cols[i % width]!]!);
}

/** Largest error of y against the reference in parts of its bound: at most 1 for a right kernel, NaN if any is. */
export function worstError(
  y: ArrayLike<number>,
  reference: ReferenceProduct,
  errors: ErrorModel,
  type: 'f32' | 'f16' = 'f32',
): number {
  let worst = 0;
  for (let i = 0; i < y.length; i++) {
    // Math.max keeps NaN.
    worst = Math.max(worst, Math.abs(y[i]! - reference.y[i]!) / errorBound(reference, i, errors, type));
  }
  return worst;
}
