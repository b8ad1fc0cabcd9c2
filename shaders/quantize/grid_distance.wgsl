// Distances to the grid of E2M1 in floats, for estimates: off by what rounding z costs and 2^-23, whichever way floats
// are rounded and whatever is fused or flushed. Below 1 the grid has the steps that it has from 1 to 2; from there on
// its numbers have two significant bits.

fn grid_distances(z: vec4<f32>) -> vec4<f32> {
  let shifted = select(z, z + vec4<f32>(1.0), z < vec4<f32>(1.0));
  let nearest = (bitcast<vec4<u32>>(shifted) + vec4<u32>(0x00200000u)) & vec4<u32>(0xFFC00000u);
  return shifted - min(bitcast<vec4<f32>>(nearest), vec4<f32>(6.0));
}

// Sum of four distances, or of their squares.
fn distances(z: vec4<f32>, absolute: bool) -> f32 {
  let r = grid_distances(z);
  return dot(r, select(r, sign(r), absolute));
}
