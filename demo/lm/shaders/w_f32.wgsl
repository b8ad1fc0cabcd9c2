// Weights as f32: four of them at a time.

alias W4 = vec4<f32>;

fn floats(w: W4) -> vec4<f32> {
  return w;
}
