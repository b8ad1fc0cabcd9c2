// Codes of eight MXFP4 values under the macro factor 1 + factor/256 and the scale 2^(byte - 127).
//
// Rounding to nearest compares with thresholds, which a power of two only shifts. Not where that is stochastic, and not
// under the four smallest scales, where thresholds could be subnormal: there each product is computed.

fn mx_codes(values: Eight, factor: u32, byte: u32, word: u32) -> u32 {
  let low = values.low & vec4<u32>(F32_MAGNITUDE);
  let high = values.high & vec4<u32>(F32_MAGNITUDE);
  if (STOCHASTIC || byte < 4u) {
    let up = vec4<i32>((127 - i32(byte)) << 23u);
    return encode8(values, widen4(scale_up4(low, factor)) + up, widen4(scale_up4(high, factor)) + up, word);
  }
  let unit = code_thresholds(factor);
  let up = vec4<u32>((byte - 127u) << 23u);
  let thresholds = Thresholds(unit.low + up, unit.high + up);
  return pack8(values, reached4(low, thresholds), reached4(high, thresholds));
}
