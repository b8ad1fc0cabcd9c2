/** Small binary floating-point formats laid out like IEEE 754's: sign, exponent, mantissa; the top exponent is Inf and NaN. */

/** The value of each code; each is an f32 exactly. */
export function ieeeValues(exponentBits: number, mantissaBits: number): Float32Array {
  const bias = 2 ** (exponentBits - 1) - 1;
  const top = 2 ** exponentBits - 1;
  const one = 2 ** mantissaBits;
  return Float32Array.from({ length: 2 ** (1 + exponentBits + mantissaBits) }, (_, code) => {
    const sign = code >> (exponentBits + mantissaBits) ? -1 : 1;
    const exponent = (code >> mantissaBits) & top;
    const mantissa = code & (one - 1);
    if (exponent === top) return mantissa === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
    if (exponent === 0) return sign * mantissa * 2 ** (1 - bias - mantissaBits);
    return sign * (one + mantissa) * 2 ** (exponent - bias - mantissaBits);
  });
}
