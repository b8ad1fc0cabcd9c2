// Scales of NVFP4 relative to the largest of their row, whose byte is `largest`.

// Bits of the reciprocal of the row's largest scale, 0 where that is 0.
fn row_value(largest: u32) -> u32 {
  return select(bitcast<u32>(1.0 / scale_value(largest)), 0u, largest == 0u);
}

fn relative_scale(byte: u32, macro_byte: u32, row: u32) -> f32 {
  // A reciprocal that was rounded up must not bring it above 1.
  return min(scale_value(byte) * bitcast<f32>(row), 1.0);
}

fn reference_scale(largest: u32) -> f32 {
  return scale_value(largest);
}
