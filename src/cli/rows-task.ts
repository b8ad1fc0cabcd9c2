/** What is done with some rows of a float matrix, on any thread. */
import { type FloatDtype, toFloat32 } from '../checkpoint/dtype.js';
import { type Fp4Error, InvalidArgumentError } from '../errors.js';
import type { QuantizedMatrix } from '../matrix/quantized-matrix.js';
import { type ErrorSums, errorSums } from '../quantize/metrics.js';
import type { QuantizeOptions } from '../quantize/options.js';
import { dequantize, largestValue, quantizeRows } from '../quantize/quantize.js';
import { outputSums } from '../sensitivity/output-error.js';

/** Rows as they are stored. */
export interface StoredRows {
  readonly bytes: Uint8Array;
  readonly dtype: FloatDtype;
  /** `rows` are those of `bytes`. */
  readonly options: QuantizeOptions;
  readonly firstRow: number;
}

export type RowsTask = StoredRows &
  (
    | { readonly kind: 'largest' }
    /** `largest` is that of all rows; without it, these are all. */
    | { readonly kind: 'quantize'; readonly largest: number | undefined }
    | { readonly kind: 'measure'; readonly q: QuantizedMatrix }
    | { readonly kind: 'output'; readonly largest: number | undefined; readonly inputs: MatrixInputs }
  );

/** x of a linear layer, f32[m, k]. */
export interface MatrixInputs {
  readonly x: Float32Array;
  /** What the layer multiplies: x itself, or what quantizing made of it. */
  readonly quantized: Float32Array;
}

export interface QuantizedRows {
  readonly q: QuantizedMatrix;
  readonly error: ErrorSums;
}

/** What `runRows` gives for each kind. */
export interface RowsResults {
  largest: number;
  quantize: QuantizedRows;
  measure: ErrorSums;
  /** Of y = x · wᵀ, without the largest error. */
  output: ErrorSums;
}

/** An error as it passes between threads, where its class would be lost. */
export type RowsAnswer = { readonly result: RowsResults[RowsTask['kind']] } | { readonly refused: string };

export function runRows(task: RowsTask): RowsResults[RowsTask['kind']] {
  const values = toFloat32(task.bytes, task.dtype);
  const { options, firstRow } = task;
  switch (task.kind) {
    case 'largest':
      return largestValue(values, options, firstRow);
    case 'quantize': {
      const q = quantizeRows(values, options, { firstRow, largest: task.largest });
      return { q, error: errorSums(values, dequantize(q)) };
    }
    case 'measure':
      return errorSums(values, dequantize(task.q));
    case 'output': {
      const quantized = dequantize(quantizeRows(values, options, { firstRow, largest: task.largest }));
      return outputSums(task.inputs, { w: values, quantized }, options.cols);
    }
  }
}

export function answerRows(task: RowsTask): RowsAnswer {
  try {
    return { result: runRows(task) };
  } catch (error) {
    if (!(error instanceof InvalidArgumentError)) throw error;
    return { refused: withoutModule(error) };
  }
}

export function withoutModule(error: Fp4Error): string {
  return error.message.slice(error.module.length + 2);
}
