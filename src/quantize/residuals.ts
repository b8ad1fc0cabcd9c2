/**
 * Errors of quantization as integers, for searches that a CPU and a GPU must decide alike.
 *
 * The residuals r of a candidate are exact: y and its grid value are within a factor of two of each other, or the
 * grid value is 0. Each is truncated to t = floor(r / 2^e), with e such that the largest t has exactly B bits, and
 * the sum of t² (or of t) is an exact integer that no reordering, rounding mode or fused multiply-add can change.
 *
 * Truncation makes the sum of squares low by at most 2·sum(t)/sum(t²), relatively, which for n residuals is at most
 * (1 + sqrt(n + 1)) / 2^(B-1). With B = 16 for n ≤ 128 and 18 above, that is 0.04 % for a macro block of 128 values
 * and 0.1 % for one of 128 × 128: the exact squared error of the candidate chosen is that close to the least.
 * Sums of absolute residuals take B = 24 and are low by at most n / 2^23: 0.003 % for a 16 × 16 tile.
 */
import { floorLog2 } from '../formats/bits.js';
import { nearestMagnitude } from '../formats/e2m1.js';
import type { Tile } from './tile.js';

export interface ErrorSum {
  /** Sum of t² or of t, an exact integer below 2^53. */
  readonly sum: number;
  /** Exponent of the sum's unit: the error is sum · 2^exponent. */
  readonly exponent: number;
}

/** Residuals of a tile or macro block under one choice of scales, gathered before their common unit is known. */
export class Residuals {
  readonly #values: Float64Array;
  #count = 0;
  #max = 0;

  constructor(capacity: number) {
    this.#values = new Float64Array(capacity);
  }

  clear(): void {
    this.#count = 0;
    this.#max = 0;
  }

  /** Adds | |y| - grid(|y| / 2^E) · 2^E | for every y of the tile, rounding to nearest. All products are exact. */
  add({ data, start, stride, height, width }: Tile, exponent: number): void {
    const down = 2 ** -exponent;
    const up = 2 ** exponent;
    const values = this.#values;
    let count = this.#count;
    let max = this.#max;
    for (let row = 0, from = start; row < height; row++, from += stride) {
      for (let i = from; i < from + width; i++) {
        const scaled = Math.abs(data[i]!) * down;
        const residual = Math.abs(scaled - nearestMagnitude(scaled)) * up;
        values[count++] = residual;
        if (residual > max) max = residual;
      }
    }
    this.#count = count;
    this.#max = max;
  }

  squaredError(): ErrorSum {
    return squaredError(this.#values, this.#count, this.#max);
  }

  absoluteError(): ErrorSum {
    return absoluteError(this.#values, this.#count, this.#max);
  }
}

/** Sum of squares of `count` non-negative residuals whose maximum is `max`. */
export function squaredError(residuals: Float64Array, count: number, max: number): ErrorSum {
  if (max === 0) return { sum: 0, exponent: 0 };
  const exponent = floorLog2(max) - (count <= 128 ? 15 : 17);
  const unit = 2 ** -exponent;
  let sum = 0;
  for (let i = 0; i < count; i++) {
    const t = (residuals[i]! * unit) | 0;
    sum += t * t;
  }
  return { sum, exponent: 2 * exponent };
}

/** Sum of `count` non-negative residuals whose maximum is `max`. */
export function absoluteError(residuals: Float64Array, count: number, max: number): ErrorSum {
  if (max === 0) return { sum: 0, exponent: 0 };
  const exponent = floorLog2(max) - 23;
  const unit = 2 ** -exponent;
  let sum = 0;
  for (let i = 0; i < count; i++) sum += (residuals[i]! * unit) | 0;
  return { sum, exponent };
}

/** a · p < b · q for integer weights p, q < 2^10 (or multiples of them by powers of two), decided exactly. */
export function lessWeighted(a: ErrorSum, p: number, b: ErrorSum, q: number): boolean {
  if (a.sum < 2 ** 43 && b.sum < 2 ** 43) {
    return a.sum * p * 2 ** (a.exponent - b.exponent) < b.sum * q;
  }
  const shift = BigInt(Math.abs(a.exponent - b.exponent));
  const left = (BigInt(a.sum) * BigInt(p)) << (a.exponent > b.exponent ? shift : 0n);
  const right = (BigInt(b.sum) * BigInt(q)) << (b.exponent > a.exponent ? shift : 0n);
  return left < right;
}
