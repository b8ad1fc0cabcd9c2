// Magnitudes as NVFP4's elements see them: multiplied by 1 / (S · s_dec).

fn scaled_magnitude(value: u32, encode: u32) -> u32 {
  return soft_mul(value & F32_MAGNITUDE, encode);
}
