// Pieces of x for tiles in workgroup memory, straight from the rows of f16 x.
//
// x  f16[m, k], eight to a vec4

@group(0) @binding(1) var<storage, read> x: array<vec4<u32>>;

// Piece i % STEP_VECTORS of row i / STEP_VECTORS of a tile's step. Past the edge of m the last row is repeated, past that
// of k there are zeros.
fn load_x(step: u32, tile_m: u32, i: u32) -> vec4<u32> {
  let row = tile_m * TILE_M + i / STEP_VECTORS;
  let vector = step * STEP_VECTORS + i % STEP_VECTORS;
  if (K % TILE_K != 0u && vector >= K / 8u) {
    return vec4<u32>();
  }
  return x[row * (K / 8u) + vector];
}

fn x_scale_of(row: u32) -> f32 {
  return 1.0;
}
