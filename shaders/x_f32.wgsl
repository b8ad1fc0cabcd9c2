// x: f32[m, k], four neighbours along k at a time.

@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;

fn load_x4(i: u32) -> vec4<f32> {
  return x[i];
}
