// Scales of MXFP4 for weights as f16, relative to the largest scale of their row, whose byte is `largest`:
// a half is code · 2^(byte - largest + 1), so that nothing is above 12.
//
// Exact while byte >= largest - 23, as halves are multiples of 2^-24. Below, small codes are rounded to such multiples,
// and blocks of byte < largest - 29 are zero.

// What halves8 takes, for the block of scale byte `byte`.
fn half_scale(byte: u32, macro_byte: u32, largest: u32) -> vec2<f16> {
  let field = max(i32(byte) - i32(largest) + 30, 0);
  return bitcast<vec2<f16>>(u32(field) * 0x04000400u);
}

// A sum of products with such halves of a row, times what was divided out.
fn undo_half_scale(sum: f32, largest: u32) -> f32 {
  return sum * 0.5 * bitcast<f32>(select(largest << 23u, 0x00400000u, largest == 0u));
}
