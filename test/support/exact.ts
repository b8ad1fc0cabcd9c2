/** Exact arithmetic for tests: rational numbers of BigInts, their rounding to f32, and neighbours of floats. */

/** num / den, den > 0. */
export interface Exact {
  readonly num: bigint;
  readonly den: bigint;
}

const view = new DataView(new ArrayBuffer(8));

/** A finite f64 as a fraction, nothing lost. */
export function exact(x: number): Exact {
  if (!Number.isFinite(x)) throw new Error(`${x} is not a rational number`);
  view.setFloat64(0, x);
  const bits = view.getBigUint64(0);
  const field = Number((bits >> 52n) & 2047n);
  const fraction = bits & ((1n << 52n) - 1n);
  const significand = field === 0 ? fraction : fraction | (1n << 52n);
  const exponent = Math.max(field, 1) - 1075;
  const num = bits >> 63n ? -significand : significand;
  return exponent >= 0 ? { num: num << BigInt(exponent), den: 1n } : { num, den: 1n << BigInt(-exponent) };
}

export const multiply = (a: Exact, b: Exact): Exact => ({ num: a.num * b.num, den: a.den * b.den });

export function divide(a: Exact, b: Exact): Exact {
  const sign = b.num < 0n ? -1n : 1n;
  return { num: sign * a.num * b.den, den: sign * a.den * b.num };
}

/** x / 2^unit as an integer; throws where that is not one. */
export function inUnits(x: number, unit: number): bigint {
  const { num, den } = exact(x);
  const scaled = unit >= 0 ? { num, den: den << BigInt(unit) } : { num: num << BigInt(-unit), den };
  if (scaled.num % scaled.den !== 0n) throw new Error(`${x} is not a multiple of 2^${unit}`);
  return scaled.num / scaled.den;
}

const bitLength = (n: bigint): number => (n === 0n ? 0 : n.toString(2).length);

/** The f32 nearest to a fraction, ties to even, subnormals kept; without an upper end of the range on request. */
export function roundToF32({ num, den }: Exact, range: 'f32' | 'unbounded above' = 'f32'): number {
  if (num === 0n) return 0;
  const magnitude = num < 0n ? -num : num;
  // The estimate of floor(log2) is at most one too high.
  let p = bitLength(magnitude) - bitLength(den);
  if (p >= 0 ? magnitude < den << BigInt(p) : magnitude << BigInt(-p) < den) p--;
  const ulp = Math.max(p - 23, -149);
  const top = ulp < 0 ? magnitude << BigInt(-ulp) : magnitude;
  const bottom = ulp > 0 ? den << BigInt(ulp) : den;
  const floor = top / bottom;
  const twiceRest = 2n * (top % bottom);
  const up = twiceRest > bottom || (twiceRest === bottom && floor % 2n === 1n);
  const rounded = Number(up ? floor + 1n : floor) * 2 ** ulp;
  const result = range === 'f32' && rounded >= 2 ** 128 ? Number.POSITIVE_INFINITY : rounded;
  return num < 0n ? -result : result;
}

/** {@link roundToF32} for what an f64 holds exactly, such as a product of two f32; faster than fractions. */
export function roundF64ToF32(x: number, range: 'f32' | 'unbounded above' = 'f32'): number {
  const magnitude = Math.abs(x);
  if (magnitude === 0 || magnitude === Number.POSITIVE_INFINITY) return x;
  let p = Math.floor(Math.log2(magnitude));
  if (2 ** p > magnitude) p--;
  if (2 ** (p + 1) <= magnitude) p++;
  const ulp = 2 ** Math.max(p - 23, -149);
  const floor = Math.floor(magnitude / ulp);
  const rest = magnitude / ulp - floor;
  const rounded = (rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor) * ulp;
  const result = range === 'f32' && rounded >= 2 ** 128 ? Number.POSITIVE_INFINITY : rounded;
  return x < 0 ? -result : result;
}

/** The next f32 away from zero (`steps` = 1) or towards it (-1); x must be a non-zero f32. */
export function neighbour32(x: number, steps: 1 | -1): number {
  const values = Float32Array.of(x);
  const words = new Int32Array(values.buffer);
  words[0]! += steps;
  return values[0]!;
}

/** The next f64 away from zero (`steps` = 1) or towards it (-1); x must not be zero. */
export function neighbour64(x: number, steps: 1 | -1): number {
  const values = Float64Array.of(x);
  const words = new BigInt64Array(values.buffer);
  words[0]! += BigInt(steps);
  return values[0]!;
}

/** bf16 nearest to x, ties to even, as an f32. */
export function roundToBf16(x: number): number {
  const values = Float32Array.of(x);
  const words = new Uint32Array(values.buffer);
  const word = words[0]!;
  words[0] = (word + 0x7fff + ((word >>> 16) & 1)) & 0xffff0000;
  return values[0]!;
}
