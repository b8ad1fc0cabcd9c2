// Scales of NVFP4 for weights as f16: a half is code · scale · 2^-7. The product of E2M1 and E4M3 has at most six bits
// and is a multiple of 2^-10, so halves, multiples of 2^-24, hold it exactly.

fn half_scale(byte: u32, macro_byte: u32, largest: u32) -> vec2<f16> {
  // E4M3 bits as a half, seven places up, are scale · 2^-8, subnormals included.
  return bitcast<vec2<f16>>((byte & 0x7Fu) * 0x00800080u) * vec2<f16>(32768.0h);
}

fn undo_half_scale(sum: f32, largest: u32) -> f32 {
  return sum * 128.0;
}
