// Parts of sums four columns at a time, where n is a multiple of four.

@group(0) @binding(1) var<storage, read> partials: array<vec4<f32>>;

fn partials4(at: u32) -> vec4<f32> {
  return partials[at / 4u];
}
