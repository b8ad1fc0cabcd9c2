/** f16, for tests: Node 20 has no Float16Array. */

/** Rounds to nearest, ties to even; beyond the range to Inf. */
export function toHalf(values: Float32Array): Uint16Array {
  return Uint16Array.from(values, (value) => {
    const sign = Object.is(value, -0) || value < 0 ? 0x8000 : 0;
    const size = Math.abs(value);
    if (Number.isNaN(value)) return 0x7e00;
    if (size >= 65520) return sign | 0x7c00;
    const exponent = Math.max(-14, Math.floor(Math.log2(size)));
    const steps = size / 2 ** (exponent - 10);
    const floor = Math.floor(steps);
    const rest = steps - floor;
    const rounded = floor + (rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? 1 : 0);
    // The implicit bit carries into the exponent, as it should.
    return sign | (rounded < 1024 ? rounded : (exponent + 15 - 1) * 1024 + rounded);
  });
}

export function halfToFloat(halves: Uint16Array): Float32Array {
  return Float32Array.from(halves, (half) => {
    const exponent = (half >> 10) & 31;
    const fraction = half & 1023;
    const sign = half >> 15 ? -1 : 1;
    if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
    return sign * (exponent ? (1024 + fraction) * 2 ** (exponent - 25) : fraction * 2 ** -24);
  });
}
