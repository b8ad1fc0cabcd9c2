// bias: f32[n]

@group(0) @binding(6) var<storage, read> bias: array<f32>;

fn bias_of(col: u32) -> f32 {
  return bias[col];
}
