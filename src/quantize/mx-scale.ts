/**
 * Scale rules of MXFP4: which power of two 2^E a block with the largest magnitude `a` is divided by.
 * With a = mant · 2^p, mant in [1, 2), every rule but 'mse' is E = p - 2, plus one where `mant` passes a threshold;
 * `a / 2^E` then lies in the interval shown. E is at least -127 (byte 0), and never reaches 128.
 *
 * | rule  | bump where  | a/2^E in | source |
 * |-------|-------------|----------|--------|
 * | floor | never       | [4, 8)   | OCP MX v1.0, section 6.3 |
 * | ceil  | mant > 1    | (2, 4]   | torchao |
 * | rceil | mant > 1.5  | (3, 6]   | torchao, NVIDIA's MXFP8 recipe: ceil(log2(a/6)), decided exactly here |
 * | even  | mant ≥ 1.75 | [3.5, 7) | torchao, AMD Quark |
 * | oas   | mant > 1.75 | (3.5, 7] | Overflow-Aware Scaling, arXiv 2603.08713, section 4.2 |
 * | mse   | least squared error of the block | | exhaustive over E, see `leastErrorExponent` |
 */
import { floorLog2 } from '../formats/bits.js';
import { E2M1_EMAX, E2M1_MAX } from '../formats/e2m1.js';
import type { MxScaleRule } from './options.js';
import { type ErrorSum, lessWeighted, Residuals } from './residuals.js';
import { largestMagnitude, type Tile } from './tile.js';

export const MIN_SCALE_EXPONENT = -127;

/** Scale exponent E of a block whose values are `tile`; -127 for a block of zeros. */
export function scaleExponent(tile: Tile, rule: MxScaleRule): number {
  const largest = largestMagnitude(tile);
  if (largest === 0) return MIN_SCALE_EXPONENT;
  if (rule === 'mse') return leastErrorExponent(tile, largest);
  const p = floorLog2(largest);
  const bump = passesThreshold(largest * 2 ** -p, rule) ? 1 : 0;
  return Math.max(p - E2M1_EMAX + bump, MIN_SCALE_EXPONENT);
}

function passesThreshold(mant: number, rule: Exclude<MxScaleRule, 'mse'>): boolean {
  switch (rule) {
    case 'floor':
      return false;
    case 'ceil':
      return mant > 1;
    case 'rceil':
      return mant > 1.5;
    case 'even':
      return mant >= 1.75;
    case 'oas':
      return mant > 1.75;
  }
}

/** Scratch of `leastErrorExponent`, for one block of up to 32 × 32. */
const blockResiduals = new Residuals(32 * 32);

/**
 * The exponent with the least squared error, ties to the smaller one. Above the first candidate the grid is a coarser
 * subset (p - 1 differs from p - 2 only in that the maximum does not clip); downwards, the search ends where clipping
 * the maximum alone costs more than the best candidate in all. Truncation lowers an error by less than 2^-14 of it.
 */
function leastErrorExponent(tile: Tile, largest: number): number {
  const middle = floorLog2(largest) - E2M1_EMAX;
  const clipsAtMiddle = largest > E2M1_MAX * 2 ** middle;
  let exponent = Math.max(clipsAtMiddle ? middle + 1 : middle, MIN_SCALE_EXPONENT);
  let best = exponent;
  let bestError = tileError(tile, exponent);
  for (exponent--; exponent >= MIN_SCALE_EXPONENT; exponent--) {
    const clipped = largest - E2M1_MAX * 2 ** exponent;
    if (clipped > 0 && clipped ** 2 * (1 - 2 ** -13) > bestError.sum * 2 ** bestError.exponent) break;
    const error = tileError(tile, exponent);
    if (!lessWeighted(bestError, 1, error, 1)) {
      best = exponent;
      bestError = error;
    }
  }
  return best;
}

function tileError(tile: Tile, exponent: number): ErrorSum {
  blockResiduals.clear();
  blockResiduals.add(tile, exponent);
  return blockResiduals.squaredError();
}
