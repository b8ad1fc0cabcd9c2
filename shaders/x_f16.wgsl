// x: f16[m, k], four neighbours along k at a time. Needs no feature.

@group(0) @binding(1) var<storage, read> x: array<vec2<u32>>;

fn load_x4(i: u32) -> vec4<f32> {
  let halves = x[i];
  return vec4<f32>(unpack2x16float(halves.x), unpack2x16float(halves.y));
}
