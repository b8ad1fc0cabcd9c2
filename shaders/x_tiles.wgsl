// Pieces of x for tiles in workgroup memory, as conversions lay them down.
//
// x         elements: vec4<u32>[tiles of m, steps of k, TILE_M, STEP_VECTORS]
// x_scales  f32[rows]: what a row of sums has to be multiplied by

@group(0) @binding(1) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(7) var<storage, read> x_scales: array<f32>;

// Piece i % STEP_VECTORS of row i / STEP_VECTORS of a tile's step.
fn load_x(step: u32, tile_m: u32, i: u32) -> vec4<u32> {
  return x[(tile_m * STEPS + step) * TILE_VECTORS + i];
}

fn x_scale_of(row: u32) -> f32 {
  return x_scales[row];
}
