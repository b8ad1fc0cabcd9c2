import { InvalidArgumentError } from '../errors.js';
import { decodeMatrix, type QuantizedMatrix } from '../matrix/quantized-matrix.js';
import { rotate, unrotate } from './hadamard.js';
import { quantizeMx } from './mx.js';
import { quantizeNv } from './nv.js';
import { type QuantizeOptions, resolveOptions } from './options.js';

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
  const spec = resolveOptions(options);
  if (!(values instanceof Float32Array))
    throw new InvalidArgumentError('quantize', 'values is not a Float32Array');
  if (values.length !== spec.rows * spec.cols) {
    throw new InvalidArgumentError(
      'quantize',
      `values has ${values.length} elements; [${spec.rows}, ${spec.cols}] needs ${spec.rows * spec.cols}`,
    );
  }
  for (let i = 0; i < values.length; i++) {
    if (!Number.isFinite(values[i])) {
      throw new InvalidArgumentError(
        'quantize',
        `value at row ${Math.floor(i / spec.cols)}, col ${i % spec.cols} is ${values[i]}; FP4 holds finite values only`,
      );
    }
  }
  const source = spec.hadamard ? rotate(values) : values;
  return spec.format === 'mxfp4' ? quantizeMx(source, spec) : quantizeNv(source, spec);
}

/** Values f32[rows, cols] that a quantized matrix stands for, a Hadamard rotation undone. */
export function dequantize(q: QuantizedMatrix): Float32Array {
  const values = decodeMatrix(q);
  return q.hadamard ? unrotate(values) : values;
}
