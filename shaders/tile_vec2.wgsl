// Workgroup memory of gemm_subgroup_matrix.wgsl in words of eight bytes, for int8 matrices of 8 along k.

const WORD = 8u;

var<workgroup> tile: array<array<vec2<u32>, PART>, PARTS>;

// Writes sixteen bytes to words `at` and `at` + 1 of a part.
fn tile_store16(part: u32, at: u32, bytes: vec4<u32>) {
  tile[part][at] = bytes.xy;
  tile[part][at + 1u] = bytes.zw;
}

// Entries 4 · quad and on of row `row` of sums that were laid down in a part.
fn tile_sums4(part: u32, row: u32, quad: u32) -> vec4<u32> {
  let at = row * SUMS_ROW + 2u * quad;
  return vec4<u32>(tile[part][at], tile[part][at + 1u]);
}
