// Errors of a block of sixteen values in registers.

fn block_error(block: Values, factor: u32, byte: u32, absolute: bool) -> ErrorSum {
  let r0 = residuals4(scaled_magnitudes(block.a.low, factor), byte);
  let r1 = residuals4(scaled_magnitudes(block.a.high, factor), byte);
  let r2 = residuals4(scaled_magnitudes(block.b.low, factor), byte);
  let r3 = residuals4(scaled_magnitudes(block.b.high, factor), byte);
  let largest = max(max(largest4(r0), largest4(r1)), max(largest4(r2), largest4(r3)));
  if (largest == NO_RESIDUAL) {
    return ErrorSum(0u, 0u, 0);
  }
  let unit = residual_unit(largest, 16u, absolute);
  var sum = ErrorSum(0u, 0u, select(2 * unit, unit, absolute));
  sum = add4(sum, truncate4(r0, unit), absolute);
  sum = add4(sum, truncate4(r1, unit), absolute);
  sum = add4(sum, truncate4(r2, unit), absolute);
  return add4(sum, truncate4(r3, unit), absolute);
}

// The same in floats, about.
fn estimated_error(block: Values, factor: f32, absolute: bool) -> f32 {
  let magnitude = vec4<u32>(F32_MAGNITUDE);
  return distances(bitcast<vec4<f32>>(block.a.low & magnitude) * factor, absolute) +
    distances(bitcast<vec4<f32>>(block.a.high & magnitude) * factor, absolute) +
    distances(bitcast<vec4<f32>>(block.b.low & magnitude) * factor, absolute) +
    distances(bitcast<vec4<f32>>(block.b.high & magnitude) * factor, absolute);
}
