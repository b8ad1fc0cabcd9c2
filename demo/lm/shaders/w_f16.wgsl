// Weights as f16: four of them at a time. Features: shader-f16.

alias W4 = vec4<f16>;

fn floats(w: W4) -> vec4<f32> {
  return vec4<f32>(w);
}
