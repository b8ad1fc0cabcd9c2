/** Error of an approximation, of a whole tensor or block by block. */
import { InvalidArgumentError } from '../errors.js';

export interface ErrorMetrics {
  /** Signal to quantization noise ratio in dB: 10·log10(sum(x²) / sum((x - x̂)²)); Infinity where nothing is lost. */
  readonly sqnr: number;
  /** Mean squared error. */
  readonly mse: number;
  readonly maxError: number;
  /** Index of the element with the largest error. */
  readonly maxErrorIndex: number;
}

/** Compares an approximation with its reference, in f64. @throws InvalidArgumentError where the lengths differ */
export function errorMetrics(reference: ArrayLike<number>, approximation: ArrayLike<number>): ErrorMetrics {
  checkLengths(reference, approximation);
  return rangeMetrics(reference, approximation, 0, reference.length);
}

/** Sums that an error is made of, so that a matrix may be compared in parts. */
export interface ErrorSums {
  /** sum(x²) */
  readonly signal: number;
  /** sum((x - x̂)²) */
  readonly noise: number;
  readonly maxError: number;
}

/** The sums of two parts, in f64. @throws InvalidArgumentError where the lengths differ */
export function errorSums(reference: ArrayLike<number>, approximation: ArrayLike<number>): ErrorSums {
  checkLengths(reference, approximation);
  const { signal, noise, maxError } = rangeSums(reference, approximation, 0, reference.length);
  return { signal, noise, maxError };
}

export const NO_ERROR: ErrorSums = { signal: 0, noise: 0, maxError: 0 };

/** Of two parts together. */
export function addSums(a: ErrorSums, b: ErrorSums): ErrorSums {
  return {
    signal: a.signal + b.signal,
    noise: a.noise + b.noise,
    // Math.max keeps a NaN.
    maxError: Math.max(a.maxError, b.maxError),
  };
}

/** Signal to quantization noise ratio in dB; Infinity where nothing is lost, NaN where a difference is none. */
export function sqnrOf({ signal, noise }: Pick<ErrorSums, 'signal' | 'noise'>): number {
  return noise === 0 ? Number.POSITIVE_INFINITY : 10 * Math.log10(signal / noise);
}

export interface BlockMetrics extends ErrorMetrics {
  /** Largest magnitude of the reference in the block. */
  readonly largest: number;
  /** Non-zero values that became zero. */
  readonly flushed: number;
}

/** Metrics of each run of `blockSize` consecutive values; the length must be a multiple of it. */
export function blockMetrics(
  reference: ArrayLike<number>,
  approximation: ArrayLike<number>,
  blockSize: number,
): BlockMetrics[] {
  checkLengths(reference, approximation);
  if (!(Number.isInteger(blockSize) && blockSize > 0) || reference.length % blockSize) {
    throw new InvalidArgumentError(
      'metrics',
      `${reference.length} values are not whole blocks of ${blockSize}`,
    );
  }
  const blocks: BlockMetrics[] = [];
  for (let start = 0; start < reference.length; start += blockSize) {
    let largest = 0;
    let flushed = 0;
    for (let i = start; i < start + blockSize; i++) {
      largest = Math.max(largest, Math.abs(reference[i]!));
      if (reference[i] !== 0 && approximation[i] === 0) flushed++;
    }
    blocks.push({ ...rangeMetrics(reference, approximation, start, start + blockSize), largest, flushed });
  }
  return blocks;
}

function rangeMetrics(
  reference: ArrayLike<number>,
  approximation: ArrayLike<number>,
  start: number,
  end: number,
): ErrorMetrics {
  const { maxErrorIndex, ...sums } = rangeSums(reference, approximation, start, end);
  return { sqnr: sqnrOf(sums), mse: sums.noise / (end - start), maxError: sums.maxError, maxErrorIndex };
}

function rangeSums(
  reference: ArrayLike<number>,
  approximation: ArrayLike<number>,
  start: number,
  end: number,
): ErrorSums & { maxErrorIndex: number } {
  let signal = 0;
  let noise = 0;
  let maxError = 0;
  let maxErrorIndex = start;
  for (let i = start; i < end; i++) {
    const x = reference[i]!;
    const error = Math.abs(x - approximation[i]!);
    signal += x * x;
    noise += error * error;
    // The first NaN is kept.
    if (error > maxError || (Number.isNaN(error) && !Number.isNaN(maxError))) {
      maxError = error;
      maxErrorIndex = i;
    }
  }
  return { signal, noise, maxError, maxErrorIndex };
}

function checkLengths(reference: ArrayLike<number>, approximation: ArrayLike<number>): void {
  if (reference.length === 0 || reference.length !== approximation.length) {
    throw new InvalidArgumentError(
      'metrics',
      `reference has ${reference.length} values, approximation ${approximation.length}; both need the same, at least one`,
    );
  }
}
