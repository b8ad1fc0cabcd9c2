// Parts of sums four columns at a time, one by one. Past the end of a row they are those of another, which are not stored.

@group(0) @binding(1) var<storage, read> partials: array<f32>;

fn partials4(at: u32) -> vec4<f32> {
  return vec4<f32>(partials[at], partials[at + 1u], partials[at + 2u], partials[at + 3u]);
}
