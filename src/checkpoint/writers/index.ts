/** The conventions that matrices can be written in, and a matrix as the tensors of one. */
import { InvalidArgumentError, UnsupportedError } from '../../errors.js';
import {
  type MatrixHeader,
  type QuantizedMatrix,
  validateHeader,
  validateMatrix,
} from '../../matrix/quantized-matrix.js';
import type { Dtype } from '../dtype.js';
import { matrixHeaders, matrixParts } from '../producers/canonical.js';
import { quote } from '../strict-json.js';
import { compressedTensors } from './compressed-tensors.js';
import { expertName } from './experts.js';
import { gguf } from './gguf.js';
import { gptOss } from './gpt-oss.js';
import type { MatrixWriter, WrittenHeader } from './writer.js';

/** This library's own convention, which holds every matrix; see producers/canonical.ts. */
const own: MatrixWriter<Dtype> = {
  stacks: true,
  problems: () => [],
  headers: (name, matrix, experts) => matrixHeaders(name, { ...matrix, experts }),
  parts: matrixParts,
};

/** By the names that `MatrixInfo.producer` has for them; `gguf` goes into GGUF files, the others into safetensors. */
export const WRITERS = {
  'fp4-webgpu': own,
  'compressed-tensors': compressedTensors,
  'gpt-oss': gptOss,
  gguf,
} as const;

export type Convention = keyof typeof WRITERS;
type DtypeOf<C extends Convention> = ReturnType<(typeof WRITERS)[C]['headers']>[number]['dtype'];

/** A tensor to write: for `writeSafetensors`, or for `writeGguf` where the convention is `gguf`. */
export interface WrittenTensor<D extends string> extends WrittenHeader<D> {
  readonly bytes: Uint8Array;
}

/**
 * The tensors that a matrix is stored in, before its bytes are there: for `layoutSafetensors` or `layoutGguf`.
 * @param matrix one, or those of all experts
 * @throws UnsupportedError naming the matrix and what the convention cannot hold of it
 * @throws InvalidArgumentError where a field is wrong, or experts differ in more than their tensor scale
 */
export function headersAs<C extends Convention>(
  convention: C,
  name: string,
  matrix: MatrixHeader | readonly MatrixHeader[],
): WrittenHeader<DtypeOf<C>>[] {
  const writer: MatrixWriter<DtypeOf<C>> = WRITERS[convention] as never;
  const experts = isOne(matrix) ? undefined : matrix;
  for (const [i, one] of (experts ?? [matrix as MatrixHeader]).entries()) {
    validateHeader(one);
    const [problem] = writer.problems(one);
    if (problem) {
      throw new UnsupportedError(
        'checkpoint',
        `matrix ${quote(name)}${experts ? `, expert ${i}` : ''}: ${problem}; 'fp4-webgpu' holds every matrix`,
      );
    }
  }
  if (!experts) return writer.headers(name, matrix as MatrixHeader);
  if (!writer.stacks) return experts.flatMap((one, i) => writer.headers(expertName(name, i), one));
  checkStack(name, experts);
  return writer.headers(name, experts[0]!, experts.length);
}

/**
 * A matrix in a convention's tensors, codes and scales as they are: for `writeSafetensors` or `writeGguf`, and read back
 * by `openCheckpoint`. The bytes may alias the matrix.
 * @param matrix one, or all experts
 * @throws as {@link headersAs}, and InvalidArgumentError where an array is not what the matrix says
 */
export function tensorsAs<C extends Convention>(
  convention: C,
  name: string,
  matrix: QuantizedMatrix | readonly QuantizedMatrix[],
): WrittenTensor<DtypeOf<C>>[] {
  const headers = headersAs(convention, name, matrix);
  const experts = isOne(matrix) ? [matrix] : matrix;
  for (const one of experts) validateMatrix(one);
  const { stacks, parts } = WRITERS[convention];
  const alone = experts.flatMap((one, i) => parts(isOne(matrix) || stacks ? name : expertName(name, i), one));
  return headers.map((header) => {
    const own = alone.filter((part) => part.name === header.name);
    return { ...header, bytes: own[0]!.per === 'tensor' ? own[0]!.bytes : concat(own) };
  });
}

function isOne<T extends MatrixHeader>(matrix: T | readonly T[]): matrix is T {
  return !Array.isArray(matrix);
}

/** What a stack's tensors say once is true of all its experts. */
export function checkStack(name: string, experts: readonly MatrixHeader[]): void {
  const [first] = experts;
  if (!first) throw new InvalidArgumentError('checkpoint', `matrix ${quote(name)}: no experts are given`);
  for (const field of ['format', 'rows', 'cols', 'blockSize', 'macroSize', 'hadamard'] as const) {
    const other = experts.findIndex((expert) => expert[field] !== first[field]);
    if (other < 0) continue;
    throw new InvalidArgumentError(
      'checkpoint',
      `matrix ${quote(name)}: ${field} is ${first[field]} in expert 0 and ${experts[other]![field]} in expert ${other}; ` +
        'experts of a stack are alike',
    );
  }
}

function concat(parts: readonly { readonly bytes: Uint8Array }[]): Uint8Array {
  if (parts.length === 1) return parts[0]!.bytes;
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.bytes.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part.bytes, at);
    at += part.bytes.length;
  }
  return bytes;
}
