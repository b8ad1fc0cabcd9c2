// Workgroup memory of gemm_subgroup_matrix.wgsl in words of sixteen bytes.

const WORD = 16u;

var<workgroup> tile: array<array<vec4<u32>, PART>, PARTS>;

// Writes sixteen bytes to word `at` of a part.
fn tile_store16(part: u32, at: u32, bytes: vec4<u32>) {
  tile[part][at] = bytes;
}

// Entries 4 · quad and on of row `row` of sums that were laid down in a part.
fn tile_sums4(part: u32, row: u32, quad: u32) -> vec4<u32> {
  return tile[part][row * SUMS_ROW + quad];
}
