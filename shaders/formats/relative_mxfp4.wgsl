// Scales of MXFP4 relative to the largest of their row, whose byte is `largest`; with MBS, times 1/f <= 1.

fn row_value(largest: u32) -> u32 {
  return largest;
}

// 0 below 2^-126.
fn relative_scale(byte: u32, macro_byte: u32, row: u32) -> f32 {
  let exponent = max(127 + i32(byte) - i32(row), 0);
  return bitcast<f32>(u32(exponent) << 23u) * macro_factor(macro_byte, 0u);
}

fn reference_scale(largest: u32) -> f32 {
  return scale_value(largest);
}
