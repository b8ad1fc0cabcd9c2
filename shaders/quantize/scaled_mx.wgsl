// Magnitudes as MXFP4's blocks see them: multiplied by the macro factor.

fn scaled_magnitude(value: u32, factor: u32) -> u32 {
  return scale_up(value & F32_MAGNITUDE, factor);
}
