// Magnitudes as MXFP4's blocks see them: multiplied by the macro factor.

fn scaled_magnitudes(values: vec4<u32>, factor: u32) -> vec4<u32> {
  return scale_up4(values & vec4<u32>(F32_MAGNITUDE), factor);
}
