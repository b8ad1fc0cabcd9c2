// Workgroup memory of gemm_subgroup_matrix.wgsl in words of sixteen bytes. Rows are those of x, then those of w.
// Indices are cut here, where arrays are accessed: compilers do not see through calls that they are in range.

const WORD = 16u;

var<workgroup> tile: array<array<vec4<u32>, PART>, PARTS>;

// Writes piece `vector` of a row.
fn tile_put(row: u32, vector: u32, bytes: vec4<u32>) {
  tile[min(row / PART_ROWS, PARTS - 1u)][row % PART_ROWS * ROW + vector % STEP_VECTORS] = bytes;
}

// Writes the two pieces of a row that an int8 chunk has.
fn tile_put2(row: u32, chunk: u32, a: vec4<u32>, b: vec4<u32>) {
  let part = min(row / PART_ROWS, PARTS - 1u);
  let at = row % PART_ROWS * ROW + chunk % STEP_CHUNKS * 2u;
  tile[part][at] = a;
  tile[part][at + 1u] = b;
}

// Writes the four pieces of a row that an f16 chunk has.
fn tile_put4(row: u32, chunk: u32, a: vec4<u32>, b: vec4<u32>, c: vec4<u32>, d: vec4<u32>) {
  let part = min(row / PART_ROWS, PARTS - 1u);
  let at = row % PART_ROWS * ROW + chunk % STEP_CHUNKS * 4u;
  tile[part][at] = a;
  tile[part][at + 1u] = b;
  tile[part][at + 2u] = c;
  tile[part][at + 3u] = d;
}

// Entries 4 · quad and on of row `row` of sums that were laid down in a part.
fn tile_sums4(part: u32, row: u32, quad: u32) -> vec4<u32> {
  return tile[part % SUBGROUPS][row % MMA_M * SUMS_ROW + quad % (SUBGROUP_N / 4u)];
}
