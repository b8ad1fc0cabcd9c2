/** The conventions that matrices can be written in, and a matrix as the tensors of one. */
import { InvalidArgumentError, UnsupportedError } from '../../errors.js';
import {
  type MatrixHeader,
  type QuantizedMatrix,
  validateHeader,
  validateMatrix,
} from '../../matrix/quantized-matrix.js';
import type { Dtype } from '../dtype.js';
import type { GgmlTypeName } from '../ggml-types.js';
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

/** What the tensors of each are made of, by the names that `MatrixInfo.producer` has for the conventions. */
interface Dtypes {
  'fp4-webgpu': Dtype;
  'compressed-tensors': Dtype;
  'gpt-oss': Dtype;
  /** In GGUF files; the others are in safetensors. */
  gguf: GgmlTypeName;
}

export type Convention = keyof Dtypes;

export const WRITERS: { readonly [C in Convention]: MatrixWriter<Dtypes[C]> } = {
  'fp4-webgpu': own,
  'compressed-tensors': compressedTensors,
  'gpt-oss': gptOss,
  gguf,
};

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
): WrittenHeader<Dtypes[C]>[] {
  if (!Object.hasOwn(WRITERS, convention)) {
    fail(`unknown convention ${quote(convention)}; known are ${Object.keys(WRITERS).join(', ')}`);
  }
  if (name === '') fail('a matrix needs a name');
  const writer = WRITERS[convention];
  const experts = isOne(matrix) ? undefined : matrix;
  if (experts?.length === 0) fail(`matrix ${quote(name)}: no experts are given`);
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
): WrittenTensor<Dtypes[C]>[] {
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

/** In what two experts differ that a stack's tensors say once of all. */
export function stackDifference(a: MatrixHeader, b: MatrixHeader): keyof MatrixHeader | undefined {
  const fields = ['format', 'rows', 'cols', 'blockSize', 'macroSize', 'hadamard'] as const;
  return fields.find((field) => a[field] !== b[field]);
}

function checkStack(name: string, experts: readonly MatrixHeader[]): void {
  const first = experts[0]!;
  for (const [i, expert] of experts.entries()) {
    const field = stackDifference(first, expert);
    if (!field) continue;
    const values = `${first[field]} in expert 0 and ${expert[field]} in expert ${i}`;
    fail(`matrix ${quote(name)}: ${field} is ${values}; experts are alike`);
  }
}

function fail(message: string): never {
  throw new InvalidArgumentError('checkpoint', message);
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
