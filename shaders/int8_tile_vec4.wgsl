// Workgroup memory of gemm_subgroup_matrix_i8.wgsl in words of sixteen bytes, for matrices of 16 or more along k.

const WORD = 16u;

var<workgroup> tile: array<array<vec4<u32>, PART>, SUBGROUPS>;

// Writes sixteen values to word `at` of a part.
fn tile_store16(part: u32, at: u32, values: vec4<u32>) {
  tile[part][at] = values;
}

// Entry (row, col) of sums that were laid down in a part.
fn tile_sum(part: u32, row: u32, col: u32) -> i32 {
  return bitcast<i32>(tile[part][row * SUMS_ROW + col / 4u][col % 4u]);
}
