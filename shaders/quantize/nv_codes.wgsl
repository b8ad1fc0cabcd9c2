// NVFP4's codes: of y = fl32(x · encode), encode a function of the block's scale byte and the tensor.

fn nv_codes(values: Eight, byte: u32, word: u32) -> u32 {
  if (byte == 0u) {
    return 0u;
  }
  var low = values.low & vec4<u32>(F32_MAGNITUDE);
  var high = values.high & vec4<u32>(F32_MAGNITUDE);
  if (!STOCHASTIC) {
    let thresholds = tensor.thresholds[byte];
    return pack8(values, reached4(low, thresholds), reached4(high, thresholds));
  }
  let encode = tensor.encode[byte];
  for (var i = 0u; i < 4u; i++) {
    low[i] = soft_mul(low[i], encode);
    high[i] = soft_mul(high[i], encode);
  }
  return encode8(values, widen4(low), widen4(high), word);
}
