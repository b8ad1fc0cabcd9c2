import { InvalidArgumentError } from '../errors.js';
import { FORMATS, type Format, MACRO_SIZES, type MacroSize } from '../formats/formats.js';

/** How an MXFP4 block chooses its power-of-two scale; see `mx-scale.ts`. */
export type MxScaleRule = 'floor' | 'ceil' | 'rceil' | 'even' | 'oas' | 'mse';
/** How an NVFP4 block chooses its E4M3 scale; see `nv.ts`. */
export type NvScaleRule = 'te' | 'four-over-six';
export type ScaleRule = MxScaleRule | NvScaleRule;
export type MacroScale = 'none' | 'static' | 'dynamic';
export type Rounding = 'nearest-even' | 'stochastic';

export interface QuantizeOptions {
  rows: number;
  /** A multiple of `blockSize`. */
  cols: number;
  format: Format;
  /** mxfp4: 32 (default) or 16; nvfp4: 16. */
  blockSize?: 16 | 32 | undefined;
  /** mxfp4: 'oas' by default; nvfp4: 'te' by default. */
  scaleRule?: ScaleRule | undefined;
  /** Macro Block Scaling, mxfp4 only; 'none' by default. */
  macroScale?: MacroScale | undefined;
  /** Values per macro-block factor; 128 (the paper's) by default. */
  macroSize?: MacroSize | undefined;
  /**
   * '1d' (default): scales along a row. '2d': one scale per blockSize × blockSize tile and one macro factor per
   * macroSize × macroSize, stored once per row, so that quantizing the transpose gives the transpose.
   */
  tile?: '1d' | '2d' | undefined;
  /** Rounding of the elements; scales are chosen the same way for both. 'nearest-even' by default. */
  rounding?: Rounding | undefined;
  /** Seed of stochastic rounding: an integer from 0 to 2^53 - 1; 0 by default. */
  seed?: number | undefined;
  /** Rotate by the 16-wide random Hadamard transform along cols first; false by default. */
  hadamard?: boolean | undefined;
  /** What 'four-over-six' compares: mean squared error (default) or mean absolute error (TransformerEngine's default). */
  fourOverSixError?: 'mae' | 'mse' | undefined;
}

/** The options with every default filled in and every combination checked. */
export interface QuantizeSpec {
  readonly rows: number;
  readonly cols: number;
  readonly format: Format;
  readonly blockSize: 16 | 32;
  readonly scaleRule: ScaleRule;
  readonly macroScale: MacroScale;
  readonly macroSize: MacroSize;
  readonly tile: '1d' | '2d';
  readonly rounding: Rounding;
  readonly seed: number;
  readonly hadamard: boolean;
  readonly fourOverSixError: 'mae' | 'mse';
}

export const SCALE_RULES: Readonly<Record<Format, readonly ScaleRule[]>> = {
  mxfp4: ['floor', 'ceil', 'rceil', 'even', 'oas', 'mse'],
  nvfp4: ['te', 'four-over-six'],
};

const quote = (value: unknown) => (typeof value === 'string' ? JSON.stringify(value) : String(value));

/** @throws InvalidArgumentError naming the option, its value and the remedy */
export function resolveOptions(o: QuantizeOptions): QuantizeSpec {
  const fail = (message: string): never => {
    throw new InvalidArgumentError('quantize', message);
  };
  const oneOf = <T>(name: string, value: T, allowed: readonly T[]): T =>
    allowed.includes(value) ? value : fail(`${name} = ${quote(value)} is not one of ${allowed.join(', ')}`);

  const format = oneOf('format', o.format, Object.keys(FORMATS) as Format[]);
  const { blockSizes, defaultBlockSize } = FORMATS[format];
  const spec: QuantizeSpec = {
    rows: o.rows,
    cols: o.cols,
    format,
    blockSize: oneOf(`${format} blockSize`, o.blockSize ?? defaultBlockSize, blockSizes) as 16 | 32,
    scaleRule: oneOf(
      `${format} scaleRule`,
      o.scaleRule ?? (format === 'mxfp4' ? 'oas' : 'te'),
      SCALE_RULES[format],
    ),
    macroScale: oneOf('macroScale', o.macroScale ?? 'none', ['none', 'static', 'dynamic'] as const),
    macroSize: oneOf('macroSize', o.macroSize ?? 128, MACRO_SIZES),
    tile: oneOf('tile', o.tile ?? '1d', ['1d', '2d'] as const),
    rounding: oneOf('rounding', o.rounding ?? 'nearest-even', ['nearest-even', 'stochastic'] as const),
    seed: o.seed ?? 0,
    hadamard: oneOf('hadamard', o.hadamard ?? false, [true, false]),
    fourOverSixError: oneOf('fourOverSixError', o.fourOverSixError ?? 'mse', ['mae', 'mse'] as const),
  };

  for (const name of ['rows', 'cols'] as const) {
    if (!(Number.isSafeInteger(spec[name]) && spec[name] > 0)) {
      fail(`${name} = ${spec[name]} is not a positive integer`);
    }
  }
  if (!Number.isSafeInteger(spec.rows * spec.cols)) fail(`${spec.rows} × ${spec.cols} values are too many`);
  if (spec.cols % spec.blockSize) {
    const other = blockSizes.find((size) => spec.cols % size === 0);
    const padded = Math.ceil(spec.cols / spec.blockSize) * spec.blockSize;
    fail(
      `cols = ${spec.cols} is not a multiple of the ${format} block ${spec.blockSize}; ` +
        `pad the rows with zeros to ${padded}${other ? ` or choose blockSize ${other}` : ''}`,
    );
  }
  if (format === 'nvfp4' && spec.macroScale !== 'none') {
    fail(
      `macroScale = '${spec.macroScale}' goes with mxfp4; nvfp4 has an E4M3 scale and a tensor scale instead`,
    );
  }
  if (!(Number.isSafeInteger(spec.seed) && spec.seed >= 0)) {
    fail(`seed = ${spec.seed} is not an integer from 0 to 2^53 - 1`);
  }
  return spec;
}
