/** Finite f32 bit patterns that are hard on a quantizer. */
import { Random } from '../random.js';

export interface TestValueOptions {
  /** One tensor scale serves them all: magnitudes keep within some twenty binades of the largest. */
  oneScale?: boolean;
  /** They are rotated before: sixteen of them must not add up to Inf. */
  rotated?: boolean;
}

/** Values of one kind that follow each other: blocks of 16 and 32 of one kind, and macro blocks of several. */
const RUN = 64;
const LARGEST_FIELD = 254;

/**
 * In runs of 64 values, by turns: random bits; random significands in a few binades; grid values and midpoints of E2M1
 * times a power of two, and their neighbours; small integers times one; subnormal numbers; the largest numbers; mostly
 * zeros of either sign; one outlier among small values.
 */
export function quantizerTestValues(
  count: number,
  seed: number,
  { oneScale = false, rotated = false }: TestValueOptions = {},
): Float32Array<ArrayBuffer> {
  const random = new Random(seed);
  const bits = new Uint32Array(count);
  const top = rotated ? LARGEST_FIELD - 4 : LARGEST_FIELD;
  // Where one scale serves all, the middle of f32's range half of the time.
  const tensorTop = oneScale ? (seed % 2 ? random.integer(100, 150) : random.integer(0, top)) : top;
  const least = oneScale ? Math.max(tensorTop - 20, 0) : 0;
  for (let start = 0; start < count; start += RUN) {
    const end = Math.min(start + RUN, count);
    const kind = random.u32() % 8;
    const base = random.integer(least, tensorTop);
    const floor = Math.max(base - random.integer(0, 6), 0);
    const sparseness = random.u32() & 7;
    for (let i = start; i < end; i++) {
      const r = random.u32();
      const sign = r & 0x80000000;
      const significand = r & 0x7fffff;
      // Between floor and base; the bits of r above are independent of the significand.
      const field = floor + (((r >>> 23) & 255) % (base - floor + 1));
      let magnitude: number;
      switch (kind) {
        case 0:
          magnitude = oneScale ? (field << 23) | significand : r & 0x7fffffff;
          break;
        case 1:
          magnitude = (field << 23) | significand;
          break;
        case 2: {
          // 0 to 7.75 in quarters, and the numbers next to them.
          const quarters = (r >>> 8) & 31;
          const step = ((r >>> 16) & 3) === 0 ? ((r >>> 18) & 3) - 1 : 0;
          magnitude = scaled(quarters, base - 4);
          if (magnitude > 0) magnitude += step;
          break;
        }
        case 3:
          magnitude = scaled(r & 15, base - 3);
          break;
        case 4:
          magnitude = oneScale ? (field << 23) | (significand & 0x700000) : significand >>> ((r >>> 23) & 15);
          break;
        case 5:
          magnitude = (Math.max(tensorTop - ((r >>> 23) & 1), 0) << 23) | significand;
          break;
        case 6:
          magnitude = ((r >>> 23) & 7) <= sparseness ? 0 : (field << 23) | significand;
          break;
        default:
          magnitude = (Math.max(base - (i % 32 === sparseness ? 0 : 4), 0) << 23) | significand;
      }
      // NaN and Inf, and what a rotation makes too large, become large numbers.
      if (magnitude >>> 23 > top) magnitude = (top << 23) | (magnitude & 0x7fffff);
      bits[i] = (sign | magnitude) >>> 0;
    }
  }
  return new Float32Array(bits.buffer);
}

/** Bits of a small integer times 2^(field - 127), 0 where that is subnormal. */
function scaled(integer: number, field: number): number {
  if (integer === 0) return 0;
  const log = 31 - Math.clz32(integer);
  const exponent = field + log;
  return exponent > 0 ? (exponent << 23) | ((integer << (23 - log)) & 0x7fffff) : 0;
}
