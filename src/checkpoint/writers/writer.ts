/**
 * What a writer module is: how a convention stores a matrix whose codes and scales are there already. Nothing is
 * quantized again; a matrix that would read back as another one is refused.
 */
import type { MatrixHeader, QuantizedMatrix } from '../../matrix/quantized-matrix.js';
import type { MatrixPart } from '../producers/canonical.js';

/** What is known of a tensor before its bytes are there. */
export interface WrittenHeader<D extends string> {
  readonly name: string;
  readonly dtype: D;
  /** Sizes in elements, slowest first; [] is a scalar. */
  readonly shape: readonly number[];
}

export interface MatrixWriter<D extends string> {
  /** Whether experts stand in one tensor. Elsewhere each is a matrix of its own, under `expertName`. */
  readonly stacks: boolean;
  /** What the convention cannot hold of the matrix; empty where it can hold all. */
  problems(matrix: MatrixHeader): string[];
  /** The tensors of a matrix, or of a stack of `experts` of them: names, dtypes and shapes need none of its bytes. */
  headers(name: string, matrix: MatrixHeader, experts?: number): WrittenHeader<D>[];
  /** What a matrix, or an expert, has for each of `headers`, in the same order. The bytes may alias the matrix. */
  parts(name: string, q: QuantizedMatrix): MatrixPart[];
}

/** A shape with the experts in front. */
export function stacked(experts: number | undefined, shape: readonly number[]): number[] {
  return experts === undefined ? [...shape] : [experts, ...shape];
}

/** What formats other than this library's own have no place for. */
export function commonProblems(matrix: MatrixHeader, container: string): string[] {
  const problems: string[] = [];
  if (matrix.format === 'mxfp4' && matrix.blockSize !== 32) {
    problems.push(`${container} has MXFP4 in blocks of 32, not of ${matrix.blockSize}`);
  }
  if (matrix.macroSize !== undefined) problems.push(`${container} has no Macro Block Scaling factors`);
  if (matrix.hadamard) problems.push(`${container} cannot say that values are rotated (hadamard)`);
  return problems;
}

export function f32Bytes(value: number): Uint8Array {
  return new Uint8Array(Float32Array.of(value).buffer);
}
