/**
 * Macro Block Scaling (arXiv 2603.08713, section 4.3): a factor f = 1 + m/256 (E0M8) per macro block, by which the
 * values are multiplied before MXFP4 block quantization: y = fl32(x · f), x̂ = q · 2^E · fl32(1/f).
 */

import { floorLog2 } from '../formats/bits.js';
import { scaleExponent } from './mx-scale.js';
import type { MxScaleRule } from './options.js';
import { type ErrorSum, lessWeighted, Residuals } from './residuals.js';
import { largestMagnitude, type Tile } from './tile.js';

/**
 * fl32(x · f), but without overflow: y keeps 24 significant bits and may reach 2^129, as the block scale takes the
 * exponent anyway. x is f32 and f has 9 bits, so the product is exact in f64 before it is rounded.
 */
export function scaleUp(x: number, f: number): number {
  const product = x * f;
  const y = Math.fround(product);
  return Number.isFinite(y) ? y : Math.fround(product / 4) * 4;
}

/**
 * Static byte of a macro block with the largest magnitude A: the largest m with 1 + m/256 ≤ (6/A)·2^j, j the integer
 * that brings the right side into [1, 2). A then lands on 6·2^i or up to 1/256 below. 0 for A = 0.
 */
export function staticFactorByte(largest: number): number {
  if (largest === 0) return 0;
  // With A = M · 2^(p-23), M an integer in [2^23, 2^24): (6/A)·2^j = N/M, N = 1.5·2^23 or 3·2^23.
  const significand = largest * 2 ** (23 - floorLog2(largest));
  const numerator = significand <= 1.5 * 2 ** 23 ? 1.5 * 2 ** 23 : 3 * 2 ** 23;
  return Math.floor(((numerator - significand) * 256) / significand);
}

/** Candidates of the dynamic search: f = 1 + j/16. */
const DYNAMIC_SLOTS = 16;

/**
 * Dynamic byte of a macro block: m = 16·j, j = 0..15, with the least squared error of the quantized macro block;
 * ties go to the smaller m. The error is an exact integer, see `residuals.ts`; elements round to nearest.
 */
export class DynamicFactorSearch {
  readonly #scaled: Float64Array;
  readonly #residuals: Residuals;
  readonly #blockSize: number;
  readonly #blockHeight: number;
  readonly #rule: MxScaleRule;

  constructor(
    macroWidth: number,
    macroHeight: number,
    blockSize: number,
    blockHeight: number,
    rule: MxScaleRule,
  ) {
    this.#scaled = new Float64Array(macroWidth * macroHeight);
    this.#residuals = new Residuals(macroWidth * macroHeight);
    this.#blockSize = blockSize;
    this.#blockHeight = blockHeight;
    this.#rule = rule;
  }

  factorByte(macro: Tile): number {
    if (largestMagnitude(macro) === 0) return 0;
    let best = 0;
    let bestError: ErrorSum | undefined;
    for (let j = 0; j < DYNAMIC_SLOTS; j++) {
      const error = this.#errorOf(macro, 1 + j / DYNAMIC_SLOTS);
      // The error in x is that in y divided by f²; f = (16 + j)/16, so compare crosswise.
      if (!bestError || lessWeighted(error, (16 + best) ** 2, bestError, (16 + j) ** 2)) {
        best = j;
        bestError = error;
      }
    }
    return best * (256 / DYNAMIC_SLOTS);
  }

  #errorOf({ data, start, stride, height, width }: Tile, f: number): ErrorSum {
    const scaled = this.#scaled;
    for (let row = 0; row < height; row++) {
      const from = start + row * stride;
      for (let i = 0; i < width; i++) scaled[row * width + i] = scaleUp(data[from + i]!, f);
    }
    this.#residuals.clear();
    for (let top = 0; top < height; top += this.#blockHeight) {
      for (let left = 0; left < width; left += this.#blockSize) {
        const block: Tile = {
          data: scaled,
          start: top * width + left,
          stride: width,
          height: Math.min(this.#blockHeight, height - top),
          width: this.#blockSize,
        };
        this.#residuals.add(block, scaleExponent(block, this.#rule));
      }
    }
    return this.#residuals.squaredError();
  }
}
