// Workgroup memory of gemm_subgroup_matrix_i8.wgsl in words of eight bytes, for matrices of 8 along k.

const WORD = 8u;

var<workgroup> tile: array<array<vec2<u32>, PART>, SUBGROUPS>;

// Writes sixteen values to words `at` and `at` + 1 of a part.
fn tile_store16(part: u32, at: u32, values: vec4<u32>) {
  tile[part][at] = values.xy;
  tile[part][at + 1u] = values.zw;
}

// Entry (row, col) of sums that were laid down in a part.
fn tile_sum(part: u32, row: u32, col: u32) -> i32 {
  return bitcast<i32>(tile[part][row * SUMS_ROW + col / 2u][col % 2u]);
}
