// Scales of MXFP4 with macro factors for weights as f16: as mxfp4_halves.wgsl, times 1/f.
//
// 1/f is rounded to f16, and so is its product with the code: together at most 2^-10 of the weight (WGSL leaves the
// direction open). Weights with f = 1 are as exact as without.

fn half_scale(byte: u32, macro_byte: u32, largest: u32) -> vec2<f16> {
  let field = max(i32(byte) - i32(largest) + 30, 0);
  return bitcast<vec2<f16>>(u32(field) * 0x04000400u) * vec2<f16>(f16(macro_quotient(macro_byte)));
}

fn undo_half_scale(sum: f32, largest: u32) -> f32 {
  return sum * 0.5 * bitcast<f32>(select(largest << 23u, 0x00400000u, largest == 0u));
}
