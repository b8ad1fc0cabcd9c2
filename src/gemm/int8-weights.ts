/** What rounding FP4 weights to int8 relative to the largest scale of their row does to them; see shaders/int8_weights.wgsl. */
import { E0M8_INVERSES } from '../formats/e0m8.js';
import { E2M1_VALUES } from '../formats/e2m1.js';
import { E4M3_VALUES } from '../formats/e4m3.js';
import { decodeE8M0 } from '../formats/e8m0.js';
import type { QuantizedMatrix } from '../matrix/quantized-matrix.js';

/** Longest k whose products, at most 127 · 96, add up to less than 2^31. */
export const INT8_MOST_K = 131072;

/** Steps of an int8 weight that make up the largest scale of its row. */
const STEPS = 16;

/** Block scales of a matrix without its tensor's scale, f64[rows, cols / blockSize]. */
export interface Int8BlockScales {
  /** As they are stored: what references are taken of. */
  readonly stored: Float64Array;
  /** What codes of the block stand for: with macro factors taken off. */
  readonly effective: Float64Array;
}

export function int8BlockScales(q: QuantizedMatrix): Int8BlockScales {
  const { cols, blockSize, macroSize, macroScales, scales } = q;
  const blocks = cols / blockSize;
  const macros = macroSize ? Math.ceil(cols / macroSize) : 0;
  const values =
    q.format === 'nvfp4' ? E4M3_VALUES : Array.from({ length: 256 }, (_, byte) => decodeE8M0(byte));
  const stored = Float64Array.from(scales, (byte) => values[byte]!);
  if (!macroScales) return { stored, effective: stored };
  const effective = stored.map((scale, i) => {
    const macro = Math.floor(((i % blocks) * blockSize) / macroSize!);
    return scale * E0M8_INVERSES[macroScales[Math.floor(i / blocks) * macros + macro]!]!;
  });
  return { stored, effective };
}

/** Nearest integer, ties to even. */
function roundEven(value: number): number {
  const down = Math.floor(value);
  const rest = value - down;
  return rest > 0.5 || (rest === 0.5 && down % 2 !== 0) ? down + 1 : down;
}

/** The int8 weight of a code with magnitude `value` in a block of `scale`, times what an integer stands for. */
export function int8Rounded(value: number, scale: number, reference: number): number {
  const step = reference / STEPS;
  return reference === 0 ? 0 : roundEven((value * scale) / step) * step;
}

/**
 * Signal to noise in dB of weights as int8 against the FP4 weights themselves: Infinity where they are exact. Low where
 * the scales of a row spread over many octaves, as its small blocks keep few bits.
 * @param stretch values along k that share a reference; all of a row in the kernels
 */
export function int8Snr(q: QuantizedMatrix, stretch: number = q.cols): number {
  const { rows, cols, blockSize, codes } = q;
  const { stored, effective } = int8BlockScales(q);
  const blocks = cols / blockSize;
  const counts = new Uint32Array(8);
  let signal = 0;
  let noise = 0;
  for (let row = 0; row < rows; row++) {
    for (let first = 0; first < blocks; first += stretch / blockSize) {
      const begin = row * blocks + first;
      const end = row * blocks + Math.min(first + stretch / blockSize, blocks);
      const reference = stored.subarray(begin, end).reduce((a, b) => Math.max(a, b));
      for (let block = begin; block < end; block++) {
        counts.fill(0);
        for (let i = (block * blockSize) / 2; i < ((block + 1) * blockSize) / 2; i++) {
          const byte = codes[i]!;
          counts[byte & 7]!++;
          counts[(byte >> 4) & 7]!++;
        }
        for (let code = 1; code < 8; code++) {
          const value = E2M1_VALUES[code]!;
          const exact = value * effective[block]!;
          const difference = exact - int8Rounded(value, effective[block]!, reference);
          signal += counts[code]! * exact * exact;
          noise += counts[code]! * difference * difference;
        }
      }
    }
  }
  return noise === 0 ? Number.POSITIVE_INFINITY : 10 * Math.log10(signal / noise);
}
