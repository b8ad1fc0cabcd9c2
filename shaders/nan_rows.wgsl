// Rows of w that had NaN or Inf when they were quantized: a block of them has the largest of all scale bytes, NAN_BYTE.

// A sum of products with row `row`, or NaN. By bits, as WGSL has no constant for NaN.
fn with_row(sum: f32, row: u32) -> f32 {
  return bitcast<f32>(select(bitcast<u32>(sum), 0x7FC00000u, row_max_byte(row) == NAN_BYTE));
}
