/**
 * Squared error as an integer, for searches that a CPU and a GPU must decide alike.
 *
 * The residuals r of a candidate are exact: y and its grid value are within a factor of two of each other, or the
 * grid value is 0. Each is truncated to t = floor(r / 2^e), with e such that the largest t has exactly B bits, and
 * S = sum of t² is an exact integer that no reordering, rounding mode or fused multiply-add can change.
 *
 * Truncation makes S · 2^(2e) low by at most 2·sum(t)/sum(t²), relatively, which for n residuals is at most
 * (1 + sqrt(n + 1)) / 2^(B-1). With B = 16 for n ≤ 128 and 18 above, that is 0.04 % for a macro block of 128 values
 * and 0.1 % for one of 128 × 128: the exact squared error of the candidate chosen by S is that close to the least.
 */
export interface SquaredError {
  /** S, an exact integer below 2^53. */
  sum: number;
  /** e of the common unit 2^e. */
  exponent: number;
}

const bits = new Float64Array(1);
const words = new Uint32Array(bits.buffer);

/** floor(log2(x)) of a positive normal f64, taken from its exponent field. */
export function floorLog2(x: number): number {
  bits[0] = x;
  return ((words[1]! >>> 20) & 2047) - 1023;
}

/** Squared error of `count` non-negative residuals whose maximum is `max`. */
export function squaredError(residuals: Float64Array, count: number, max: number): SquaredError {
  if (max === 0) return { sum: 0, exponent: 0 };
  const residualBits = count <= 128 ? 16 : 18;
  const exponent = floorLog2(max) - (residualBits - 1);
  const unit = 2 ** -exponent;
  let sum = 0;
  for (let i = 0; i < count; i++) {
    const t = (residuals[i]! * unit) | 0;
    sum += t * t;
  }
  return { sum, exponent };
}

/** a · p < b · q for integer weights p, q < 2^10, decided exactly. */
export function lessWeighted(a: SquaredError, p: number, b: SquaredError, q: number): boolean {
  if (a.sum < 2 ** 43 && b.sum < 2 ** 43) {
    return a.sum * p * 2 ** (2 * (a.exponent - b.exponent)) < b.sum * q;
  }
  const shift = BigInt(2 * Math.abs(a.exponent - b.exponent));
  const left = (BigInt(a.sum) * BigInt(p)) << (a.exponent > b.exponent ? shift : 0n);
  const right = (BigInt(b.sum) * BigInt(q)) << (b.exponent > a.exponent ? shift : 0n);
  return left < right;
}
