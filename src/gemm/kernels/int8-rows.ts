/** What kernels that multiply int8 with a scale for each row of x and of w have in common. */
import { INT8_MOST_K } from '../int8-weights.js';
import type { GemmProblem } from '../problem.js';
import type { ErrorModel } from './kernel.js';

/** Least signal to noise in dB that weights may have as int8. */
const LEAST_SNR = 30;

/** Why the rows of a problem cannot be integers. */
export function refuseInt8Rows({ k, int8Snr }: GemmProblem): string | undefined {
  if (k > INT8_MOST_K) return `sums of more than ${INT8_MOST_K} products may leave the range of i32`;
  if (int8Snr !== undefined && int8Snr < LEAST_SNR) {
    return (
      `the scales of these weights spread so far that as int8 they have a signal to noise of ${int8Snr.toFixed(1)} dB, ` +
      `below ${LEAST_SNR} dB`
    );
  }
  return undefined;
}

export const INT8_ROWS_ERRORS: ErrorModel = {
  roundings: 24,
  // Half a step of the integers, and f32 roundings of it.
  xStep: 0.501 / 127,
  // Half a step, and the rounded factor of a block: see shaders/int8_weights.wgsl.
  wStep: 0.5 / 96 + 2 ** -10,
};
