import { InvalidArgumentError, UnsupportedError } from '../errors.js';
import { FORMATS, type Format, type MacroSize } from '../formats/formats.js';

/** One matrix product y[m, n] = x[m, k] · w[n, k]ᵀ (+ bias[n]): sizes, weight format, types. Plain data. */
export interface GemmProblem {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly format: Format;
  readonly blockSize: number;
  /** Values per macro-block factor; absent without Macro Block Scaling. */
  readonly macroSize?: MacroSize;
  readonly x: 'f32' | 'f16';
  readonly y: 'f32' | 'f16';
  readonly bias: boolean;
}

/** @throws InvalidArgumentError for sizes the format does not allow; UnsupportedError for types no kernel has */
export function checkProblem(p: GemmProblem): void {
  for (const size of ['m', 'n', 'k'] as const) {
    if (!(Number.isSafeInteger(p[size]) && p[size] > 0)) {
      throw new InvalidArgumentError('gemm', `${size} = ${p[size]} is not a positive integer`);
    }
  }
  const format = FORMATS[p.format];
  if (!format?.blockSizes.includes(p.blockSize)) {
    throw new InvalidArgumentError('gemm', `${p.format} with blocks of ${p.blockSize} is not a known format`);
  }
  if (p.k % p.blockSize) {
    throw new InvalidArgumentError(
      'gemm',
      `k = ${p.k} is not a multiple of the ${p.format} block ${p.blockSize}; pad the matrix`,
    );
  }
  for (const operand of ['x', 'y'] as const) {
    if (p[operand] !== 'f32') {
      throw new UnsupportedError(
        'gemm',
        `${operand} as ${p[operand]}: the kernels take and give f32; convert it`,
      );
    }
  }
  // Kernels index with u32.
  if (p.m * p.k >= 2 ** 32 || p.n * p.k >= 2 ** 32 || p.m * p.n >= 2 ** 32) {
    throw new InvalidArgumentError(
      'gemm',
      `an operand of ${p.m} × ${p.n} × ${p.k} has 2^32 elements or more; split it`,
    );
  }
}

/** `mxfp4`, `mxfp4b16`, `mxfp4-mbs128`, `nvfp4`: the weight format as it appears in labels. */
export function formatLabel({
  format,
  blockSize,
  macroSize,
}: Pick<GemmProblem, 'format' | 'blockSize' | 'macroSize'>): string {
  const block = blockSize === FORMATS[format].defaultBlockSize ? '' : `b${blockSize}`;
  return `${format}${block}${macroSize ? `-mbs${macroSize}` : ''}`;
}
