// Codes of MXFP4 values under the macro factor 1 + factor/256 and the scale 2^(byte - 127), by comparisons.
//
// Rounding to nearest compares with thresholds, which a power of two only shifts. Not where that is stochastic, and not
// under the four smallest scales, where thresholds could be subnormal: there each product is computed.

struct Encoder {
  factor: u32,
  byte: u32,
  thresholds: Thresholds,
}

fn mx_encoder(factor: u32, byte: u32) -> Encoder {
  let unit = code_thresholds(factor);
  let up = vec4<u32>((byte - 127u) << 23u);
  return Encoder(factor, byte, Thresholds(unit.low + up, unit.high + up));
}

// Least byte under which subnormal values are far below the grid's first step, whatever they are taken for.
const FIRST_PLAIN_BYTE = 40u;

// What scaling makes of magnitudes, wide.
fn wide_scaled4(v: vec4<u32>, encoder: Encoder) -> vec4<i32> {
  var y = v;
  if (encoder.factor > 0u) {
    y = scale_up4(v, encoder.factor);
  }
  var wide = vec4<i32>(y);
  if (encoder.byte < FIRST_PLAIN_BYTE) {
    wide = widen4(y);
  }
  return wide + vec4<i32>((127 - i32(encoder.byte)) << 23u);
}

fn encode_word(values: Eight, encoder: Encoder, word: u32) -> u32 {
  let low = values.low & vec4<u32>(F32_MAGNITUDE);
  let high = values.high & vec4<u32>(F32_MAGNITUDE);
  if (STOCHASTIC || encoder.byte < 4u) {
    return encode8(values, wide_scaled4(low, encoder), wide_scaled4(high, encoder), word);
  }
  return pack8(values, reached4(low, encoder.thresholds), reached4(high, encoder.thresholds));
}
