import { InvalidArgumentError } from '../errors.js';
import { decodeMatrix, type QuantizedMatrix } from '../matrix/quantized-matrix.js';
import { rotate, unrotate } from './hadamard.js';
import { quantizeMx } from './mx.js';
import { quantizeNv } from './nv.js';
import { type QuantizeOptions, type QuantizeSpec, resolveOptions } from './options.js';

/**
 * Quantizes a matrix f32[rows, cols] (row-major) to FP4: the reference that GPU quantizers match byte for byte.
 *
 * ```ts
 * const q = quantize(weights, { rows: 4096, cols: 4096, format: 'mxfp4', macroScale: 'dynamic' });
 * const approximation = dequantize(q);
 * ```
 *
 * Blocks of zeros, and NVFP4 blocks so small that their scale rounds to zero, get scale byte 0 and codes 0. MXFP4
 * rounds values above 1.75 · 2^127 up to 2^128 under the rules that bump there, which `dequantize` gives as Infinity.
 * @throws InvalidArgumentError for options that do not go together, a wrong length, cols that are not a multiple of
 * the block, and NaN or Inf among the values (the message names the position)
 */
export function quantize(values: Float32Array, options: QuantizeOptions): QuantizedMatrix {
  return quantizeRows(values, options, { firstRow: 0 });
}

/** Where rows lie in the matrix that they are a part of. */
export interface RowsWithin {
  /** Number of the first one; with `tile: '2d'` a multiple of {@link tileHeight}. */
  readonly firstRow: number;
  /** nvfp4: the largest {@link largestValue} of all rows; by default that of these. */
  readonly largest?: number | undefined;
}

/**
 * Some rows of a matrix, quantized to the bytes that {@link quantize} gives them within the whole: for matrices that
 * are read a stripe at a time.
 * @param options of the whole matrix, but with `rows` those of `values`
 * @throws InvalidArgumentError as `quantize`
 */
export function quantizeRows(
  values: Float32Array,
  options: QuantizeOptions,
  within: RowsWithin,
): QuantizedMatrix {
  const spec = resolveOptions(options);
  const { firstRow } = within;
  if (!(Number.isSafeInteger(firstRow) && firstRow >= 0) || firstRow % tileHeight(spec)) {
    const rule = `not a multiple of ${tileHeight(spec)}`;
    throw new InvalidArgumentError('quantize', `firstRow = ${firstRow} is ${rule} from 0 on`);
  }
  const source = prepare(values, spec, firstRow);
  return spec.format === 'mxfp4'
    ? quantizeMx(source, spec, firstRow)
    : quantizeNv(source, spec, within.largest ?? largest(source), firstRow);
}

/**
 * The largest magnitude of some rows as the quantizer sees them, a Hadamard rotation done: what the tensor scale of
 * nvfp4 is made of.
 * @throws InvalidArgumentError as `quantize`
 */
export function largestValue(values: Float32Array, options: QuantizeOptions, firstRow = 0): number {
  return largest(prepare(values, resolveOptions(options), firstRow));
}

/** Rows that are quantized together: 1, or the height of tiles. */
export function tileHeight(
  spec: Pick<QuantizeSpec, 'tile' | 'blockSize' | 'macroScale' | 'macroSize'>,
): number {
  if (spec.tile === '1d') return 1;
  return spec.macroScale === 'none' ? spec.blockSize : spec.macroSize;
}

/** The values that are quantized. @throws InvalidArgumentError for a wrong length, NaN and Inf */
function prepare(
  values: Float32Array,
  { rows, cols, hadamard }: QuantizeSpec,
  firstRow: number,
): Float32Array {
  if (!(values instanceof Float32Array))
    throw new InvalidArgumentError('quantize', 'values is not a Float32Array');
  if (values.length !== rows * cols) {
    throw new InvalidArgumentError(
      'quantize',
      `values has ${values.length} elements; [${rows}, ${cols}] needs ${rows * cols}`,
    );
  }
  for (let i = 0; i < values.length; i++) {
    if (!Number.isFinite(values[i])) {
      throw new InvalidArgumentError(
        'quantize',
        `value at row ${firstRow + Math.floor(i / cols)}, col ${i % cols} is ${values[i]}; FP4 holds finite values only`,
      );
    }
  }
  return hadamard ? rotate(values, firstRow * cols) : values;
}

function largest(values: Float32Array): number {
  let magnitude = 0;
  for (let i = 0; i < values.length; i++) magnitude = Math.max(magnitude, Math.abs(values[i]!));
  return magnitude;
}

/** Values f32[rows, cols] that a quantized matrix stands for, a Hadamard rotation undone. */
export function dequantize(q: QuantizedMatrix): Float32Array {
  const values = decodeMatrix(q);
  return q.hadamard ? unrotate(values) : values;
}
