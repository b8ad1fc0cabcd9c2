// As tile_vec4.wgsl, in words of eight bytes, for int8 matrices of 8 along k.

const WORD = 8u;

var<workgroup> tile: array<array<vec2<u32>, PART>, PARTS>;

fn tile_put(row: u32, vector: u32, bytes: vec4<u32>) {
  let part = min(row / PART_ROWS, PARTS - 1u);
  let at = row % PART_ROWS * ROW + vector % STEP_VECTORS * 2u;
  tile[part][at] = bytes.xy;
  tile[part][at + 1u] = bytes.zw;
}

fn tile_put2(row: u32, chunk: u32, a: vec4<u32>, b: vec4<u32>) {
  tile_put(row, 2u * chunk, a);
  tile_put(row, 2u * chunk + 1u, b);
}

fn tile_sums4(part: u32, row: u32, quad: u32) -> vec4<u32> {
  let at = row % MMA_M * SUMS_ROW + quad % (SUBGROUP_N / 4u) * 2u;
  return vec4<u32>(tile[part % SUBGROUPS][at], tile[part % SUBGROUPS][at + 1u]);
}
