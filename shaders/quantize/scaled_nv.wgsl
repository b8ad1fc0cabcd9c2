// Magnitudes as NVFP4's elements see them: multiplied by 1 / (S · s_dec).

fn scaled_magnitudes(values: vec4<u32>, encode: u32) -> vec4<u32> {
  let v = values & vec4<u32>(F32_MAGNITUDE);
  return vec4<u32>(soft_mul(v.x, encode), soft_mul(v.y, encode), soft_mul(v.z, encode), soft_mul(v.w, encode));
}
