import { InvalidArgumentError, UnsupportedError } from '../errors.js';
import { FORMATS, type Format, MACRO_SIZES, type MacroSize } from '../formats/formats.js';
import {
  type ActivationOptions,
  type Activations,
  activationsLabel,
  checkActivations,
  defaultActivations,
} from './activations.js';

/** One matrix product y[m, n] = x[m, k] · w[n, k]ᵀ (+ bias[n]) (+ y): sizes, weight format, types. Plain data. */
export interface GemmProblem {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly format: Format;
  readonly blockSize: number;
  /** Values per macro-block factor; absent without Macro Block Scaling. */
  readonly macroSize?: MacroSize;
  /** Type of x and y in their buffers. */
  readonly x: 'f32' | 'f16';
  readonly y: 'f32' | 'f16';
  readonly bias: boolean;
  /** Whether the product is added to what y holds. */
  readonly accumulate: boolean;
  /** What x is turned into before it is multiplied. */
  readonly activations: Activations;
  /**
   * With float activations: the least precise type that x and w may be rounded to before they are multiplied. 'f16'
   * keeps 11 bits of each (and the range of f32, as rows of x are scaled by powers of two). Sums are f32 either way, but
   * for those of up to sixteen products in kernels on halves without matrices (`gemv_f16`, `gemm_tiled_f16`).
   */
  readonly precision: 'f32' | 'f16';
  /**
   * Signal to noise, in dB, of these weights as int8 with one scale a row; kernels that need it high are left out where
   * it is low. Absent where it is not known, as of weights quantized on the GPU: nothing is left out. `GpuWeights` has it.
   */
  readonly int8Snr?: number;
  /**
   * Whether blocks of weights may have the scale that stands for NaN, because the GPU quantized them and nobody has
   * seen them since: their rows' columns of y are NaN then. `GpuWeights` knows it.
   */
  readonly nanScales?: boolean;
}

/** A problem with what has a default left out. */
export type GemmProblemOptions = Pick<GemmProblem, 'm' | 'n' | 'k' | 'format'> &
  Partial<Omit<GemmProblem, 'activations'>> & { readonly activations?: ActivationOptions };

/**
 * Fills in defaults and checks a problem.
 * @throws InvalidArgumentError for sizes the format does not allow
 */
export function resolveProblem(options: GemmProblemOptions): GemmProblem {
  const format = FORMATS[options.format];
  if (!format) {
    throw new InvalidArgumentError('gemm', `unknown weight format ${JSON.stringify(options.format)}`);
  }
  const blockSize = options.blockSize ?? format.defaultBlockSize;
  const p: GemmProblem = {
    x: 'f32',
    y: 'f32',
    bias: false,
    accumulate: false,
    precision: 'f16',
    ...options,
    blockSize,
    activations: defaultActivations(options.activations, options.format, blockSize),
  };
  checkProblem(p);
  return p;
}

function checkProblem(p: GemmProblem): void {
  for (const size of ['m', 'n', 'k'] as const) {
    if (!(Number.isSafeInteger(p[size]) && p[size] > 0)) {
      throw new InvalidArgumentError('gemm', `${size} = ${p[size]} is not a positive integer`);
    }
  }
  if (!FORMATS[p.format].blockSizes.includes(p.blockSize)) {
    throw new InvalidArgumentError('gemm', `${p.format} with blocks of ${p.blockSize} is not a known format`);
  }
  if (p.k % p.blockSize) {
    throw new InvalidArgumentError(
      'gemm',
      `k = ${p.k} is not a multiple of the ${p.format} block ${p.blockSize}; pad the matrix`,
    );
  }
  for (const operand of ['x', 'y', 'precision'] as const) {
    if (p[operand] !== 'f32' && p[operand] !== 'f16') {
      throw new InvalidArgumentError(
        'gemm',
        `${operand} is ${JSON.stringify(p[operand])}; take 'f32' or 'f16'`,
      );
    }
  }
  checkActivations(p.activations, p.k);
  // Kernels index with u32.
  if (p.m * p.k >= 2 ** 32 || p.n * p.k >= 2 ** 32 || p.m * p.n >= 2 ** 32) {
    throw new UnsupportedError(
      'gemm',
      `an operand of ${p.m} × ${p.n} × ${p.k} has 2^32 elements or more; split it`,
    );
  }
}

/** How the weights of a problem lie in memory. */
export type WeightFormat = Pick<GemmProblem, 'format' | 'blockSize' | 'macroSize'>;

/** `mxfp4`, `mxfp4b16`, `mxfp4-mbs128`, `nvfp4`: the weight format as it appears in labels. */
export function formatLabel({ format, blockSize, macroSize }: WeightFormat): string {
  const block = blockSize === FORMATS[format].defaultBlockSize ? '' : `b${blockSize}`;
  return `${format}${block}${macroSize ? `-mbs${macroSize}` : ''}`;
}

/** Every format that weights can have, by label. */
export const WEIGHT_FORMATS: Readonly<Record<string, WeightFormat>> = Object.fromEntries(
  (['mxfp4', 'nvfp4'] as const)
    .flatMap((format) =>
      FORMATS[format].blockSizes.flatMap((blockSize): WeightFormat[] => [
        { format, blockSize },
        ...(format === 'mxfp4' ? MACRO_SIZES.map((macroSize) => ({ format, blockSize, macroSize })) : []),
      ]),
    )
    .map((format) => [formatLabel(format), format]),
);

/** Everything about a problem but its sizes, e.g. `mxfp4.f32`, `nvfp4.mxfp4-mbs128.f16.y16.bias.add`. */
export function problemLabel(p: GemmProblem): string {
  const activations = p.activations.kind === 'float' ? [] : [activationsLabel(p.activations)];
  const y = p.y === 'f16' ? ['y16'] : [];
  const epilogue = [...(p.bias ? ['bias'] : []), ...(p.accumulate ? ['add'] : [])];
  return [formatLabel(p), ...activations, p.x, ...y, ...epilogue].join('.');
}
