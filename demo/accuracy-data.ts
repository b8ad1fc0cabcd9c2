/** What the accuracy section measures: seeded data, the ways to quantize it, and statistics of the error. No DOM. */
import {
  bitsPerValue,
  decodeE4M3,
  dequantize,
  errorMetrics,
  type Format,
  type QuantizedMatrix,
  type QuantizeOptions,
  quantize,
} from '../src/index.js';
import { Random } from '../src/random.js';

export interface Matrix {
  readonly rows: number;
  readonly cols: number;
  readonly values: Float32Array;
}

/** Most values that are quantized: a desktop takes some seconds for all the ways. */
export const MAX_VALUES = 2 ** 19;
/** Of generated data. */
export const ROWS = 256;
export const COLS = 2048;

export type Distribution = 'gaussian' | 'laplace' | 'student-t' | 'channel-outliers';

/** One channel in so many is so many times as large. */
const OUTLIER_EVERY = 128;
const OUTLIER_FACTOR = 30;

export const DISTRIBUTIONS: Readonly<Record<Distribution, { label: string; about: string }>> = {
  gaussian: { label: 'Gaussian', about: 'Standard normal values.' },
  laplace: { label: 'Laplace', about: 'Laplace values of scale 1.' },
  'student-t': {
    label: 'Student-t (3)',
    about: "Student's t of 3 degrees of freedom: heavy tails.",
  },
  'channel-outliers': {
    label: 'Channel outliers',
    about: `Standard normal values, but ${COLS / OUTLIER_EVERY} of ${COLS} channels ${OUTLIER_FACTOR} times as large, as activations have them.`,
  },
};

export function generate(
  distribution: Distribution,
  seed: number,
  rows: number = ROWS,
  cols: number = COLS,
): Matrix {
  const random = new Random(seed);
  const fill = (draw: () => number) => Float32Array.from({ length: rows * cols }, draw);
  const draw: Record<Distribution, () => Float32Array> = {
    gaussian: () => random.normals(rows * cols),
    laplace: () => fill(() => laplace(random)),
    'student-t': () => fill(() => studentT(random, 3)),
    'channel-outliers': () => withOutliers(random, rows, cols),
  };
  return { rows, cols, values: draw[distribution]() };
}

function laplace(random: Random): number {
  const sign = random.u32() & 1 ? -1 : 1;
  return -sign * Math.log(1 - random.unit());
}

function studentT(random: Random, freedom: number): number {
  let chi2 = 0;
  for (let i = 0; i < freedom; i++) chi2 += random.normal() ** 2;
  return random.normal() / Math.sqrt(chi2 / freedom);
}

function withOutliers(random: Random, rows: number, cols: number): Float32Array {
  const channels = new Set<number>();
  while (channels.size < Math.ceil(cols / OUTLIER_EVERY)) channels.add(random.integer(0, cols - 1));
  const values = random.normals(rows * cols);
  for (const channel of channels) {
    for (let i = channel; i < values.length; i += cols) values[i]! *= OUTLIER_FACTOR;
  }
  return values;
}

/** The part of a matrix [rows, cols] that is quantized: whole blocks of either size, few enough values. */
export function measuredPart(rows: number, cols: number): { rows: number; cols: number } {
  const wholeBlocks = Math.min(cols, MAX_VALUES) & ~31;
  if (wholeBlocks === 0) return { rows: 0, cols: 0 };
  return { rows: Math.min(rows, Math.floor(MAX_VALUES / wholeBlocks)), cols: wholeBlocks };
}

/** The first columns of rows of `stored` values. */
export function cropColumns(values: Float32Array, stored: number, cols: number): Float32Array {
  if (stored === cols) return values;
  const rows = values.length / stored;
  const out = new Float32Array(rows * cols);
  for (let row = 0; row < rows; row++)
    out.set(values.subarray(row * stored, row * stored + cols), row * cols);
  return out;
}

export interface Way {
  readonly id: string;
  readonly label: string;
  readonly options: Omit<QuantizeOptions, 'rows' | 'cols'>;
}

const mx = (id: string, label: string, options: Partial<QuantizeOptions>): Way => ({
  id,
  label,
  options: { ...options, format: 'mxfp4' },
});

/** In the order of the table. */
export const WAYS: readonly Way[] = [
  ...(['floor', 'ceil', 'rceil', 'even', 'oas', 'mse'] as const).map((scaleRule) =>
    mx(`mxfp4-${scaleRule}`, `mxfp4 ${scaleRule}`, { scaleRule }),
  ),
  mx('mxfp4-oas-static128', 'mxfp4 oas + MBS static 128', { scaleRule: 'oas', macroScale: 'static' }),
  ...([128, 64, 32] as const).map((macroSize) =>
    mx(`mxfp4-oas-dynamic${macroSize}`, `mxfp4 oas + MBS dynamic ${macroSize}`, {
      scaleRule: 'oas',
      macroScale: 'dynamic',
      macroSize,
    }),
  ),
  mx('mxfp4-oas-block16', 'mxfp4 oas, block 16', { scaleRule: 'oas', blockSize: 16 }),
  mx('mxfp4-oas-block16-dynamic128', 'mxfp4 oas, block 16 + MBS dynamic 128', {
    scaleRule: 'oas',
    blockSize: 16,
    macroScale: 'dynamic',
  }),
  { id: 'nvfp4-te', label: 'nvfp4 te', options: { format: 'nvfp4', scaleRule: 'te' } },
  {
    id: 'nvfp4-four-over-six',
    label: 'nvfp4 four-over-six',
    options: { format: 'nvfp4', scaleRule: 'four-over-six' },
  },
];

export interface Measurement {
  /** Of its {@link Way}. */
  readonly id: string;
  readonly blockSize: number;
  readonly bits: number;
  /** dB, by the library's `errorMetrics`. */
  readonly sqnr: number;
  readonly maxError: number;
  readonly maxErrorRow: number;
  readonly maxErrorCol: number;
  readonly histogram: ErrorHistogram;
  readonly heatMap: HeatMap;
  readonly scales: ScaleHistogram;
}

/** @throws InvalidArgumentError as `quantize`, for NaN and Inf too */
export function measure({ rows, cols, values }: Matrix, way: Way): Measurement {
  const q = quantize(values, { ...way.options, rows, cols });
  const approximation = dequantize(q);
  const { sqnr, maxError, maxErrorIndex } = errorMetrics(values, approximation);
  return {
    id: way.id,
    blockSize: q.blockSize,
    bits: bitsPerValue(q),
    sqnr,
    maxError,
    maxErrorRow: Math.floor(maxErrorIndex / cols),
    maxErrorCol: maxErrorIndex % cols,
    histogram: errorHistogram(values, approximation),
    heatMap: heatMap(values, approximation, rows, cols, q.blockSize),
    scales: scaleHistogram(q),
  };
}

export interface ErrorHistogram {
  /** Errors x̂ - x from -range to range in equal bins; both in units of the RMS of x. */
  readonly range: number;
  readonly counts: Uint32Array;
  /** Errors beyond the range on either side. */
  readonly outside: number;
}

/** Odd, so that errors of 0 lie in the middle of one. */
export const ERROR_BINS = 81;
/** The range, in RMS errors. */
const HISTOGRAM_SPREAD = 4;

export function errorHistogram(reference: Float32Array, approximation: Float32Array): ErrorHistogram {
  const counts = new Uint32Array(ERROR_BINS);
  const { signal, noise } = power(reference, approximation);
  const limit = HISTOGRAM_SPREAD * Math.sqrt(noise);
  let outside = 0;
  for (let i = 0; i < reference.length; i++) {
    const error = approximation[i]! - reference[i]!;
    // Without any error there is no range to divide.
    const bin = limit === 0 ? (ERROR_BINS - 1) / 2 : Math.floor(((error + limit) / (2 * limit)) * ERROR_BINS);
    if (bin >= 0 && bin < ERROR_BINS) counts[bin]!++;
    else outside++;
  }
  return { range: limit === 0 ? 0 : limit / Math.sqrt(signal), counts, outside };
}

export interface HeatMap {
  /** Cells, down and across. */
  readonly height: number;
  readonly width: number;
  /** Rows and blocks in each cell; those at the bottom and the right edge may have fewer. */
  readonly rowsPerCell: number;
  readonly blocksPerCell: number;
  /**
   * Mean squared error of each cell in dB of the mean square of all x, so that the power of all values together is -SQNR;
   * -Infinity where nothing is lost.
   */
  readonly db: Float32Array;
}

const MAX_CELLS_DOWN = 128;
const MAX_CELLS_ACROSS = 128;

export function heatMap(
  reference: Float32Array,
  approximation: Float32Array,
  rows: number,
  cols: number,
  blockSize: number,
): HeatMap {
  const blocks = cols / blockSize;
  const rowsPerCell = Math.ceil(rows / MAX_CELLS_DOWN);
  const blocksPerCell = Math.ceil(blocks / MAX_CELLS_ACROSS);
  const height = Math.ceil(rows / rowsPerCell);
  const width = Math.ceil(blocks / blocksPerCell);
  const noise = new Float64Array(height * width);
  const counts = new Uint32Array(height * width);
  const colsPerCell = blocksPerCell * blockSize;
  for (let row = 0, i = 0; row < rows; row++) {
    const first = Math.floor(row / rowsPerCell) * width;
    for (let col = 0; col < cols; col++, i++) {
      const cell = first + Math.floor(col / colsPerCell);
      noise[cell]! += (approximation[i]! - reference[i]!) ** 2;
      counts[cell]!++;
    }
  }
  const { signal } = power(reference, approximation);
  // 0/0 of an all-zero matrix is no error either.
  const db = Float32Array.from(noise, (sum, cell) =>
    sum === 0 ? Number.NEGATIVE_INFINITY : 10 * Math.log10(sum / counts[cell]! / signal),
  );
  return { height, width, rowsPerCell, blocksPerCell, db };
}

/** Mean squares of values and of errors. */
function power(reference: Float32Array, approximation: Float32Array): { signal: number; noise: number } {
  let signal = 0;
  let noise = 0;
  for (let i = 0; i < reference.length; i++) {
    signal += reference[i]! ** 2;
    noise += (approximation[i]! - reference[i]!) ** 2;
  }
  return { signal: signal / reference.length, noise: noise / reference.length };
}

export interface ScaleHistogram {
  readonly format: Format;
  /** Scale bytes from the least to the largest that occurs, those without blocks included; blocks of each. */
  readonly firstByte: number;
  readonly counts: readonly number[];
  /** Blocks of scale byte 0, which are all zero or too small; not among `counts`. */
  readonly zero: number;
}

export function scaleHistogram({
  format,
  scales,
}: Pick<QuantizedMatrix, 'format' | 'scales'>): ScaleHistogram {
  const counts = Array.from({ length: 256 }, () => 0);
  for (const byte of scales) counts[byte]!++;
  const zero = counts[0]!;
  counts[0] = 0;
  const firstByte = counts.findIndex((count) => count > 0);
  if (firstByte < 0) return { format, firstByte: 0, counts: [], zero };
  return {
    format,
    firstByte,
    counts: counts.slice(firstByte, counts.findLastIndex((count) => count > 0) + 1),
    zero,
  };
}

/** A scale byte as charts name it: powers of two for E8M0, values for E4M3. */
export function scaleLabel(format: Format, byte: number): string {
  if (format === 'mxfp4') return `2${superscript(byte - 127)}`;
  return String(Number(decodeE4M3(byte).toPrecision(3)));
}

function superscript(exponent: number): string {
  return [...String(exponent)].map((digit) => (digit === '-' ? '⁻' : '⁰¹²³⁴⁵⁶⁷⁸⁹'[Number(digit)]!)).join('');
}
