// Scales of NVFP4 for weights as f16: a half is code · scale · 2^-7. The product of E2M1 and E4M3 has at most six bits
// and is a multiple of 2^-10, so halves, multiples of 2^-24, hold it exactly.

fn half_scale(byte: u32, macro_byte: u32, largest: u32) -> vec2<f16> {
  // Not by moving the bits into a half and multiplying by 2^15: NVIDIA's driver 580.159 multiplies codes by the moved bits
  // first in gemm_subgroup_matrix.wgsl, where the products vanish.
  return vec2<f16>(f16(scale_value(byte) * 128.0));
}

fn undo_half_scale(sum: f32, largest: u32) -> f32 {
  return sum * 128.0;
}
