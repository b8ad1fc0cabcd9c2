// x[row] = table[tokens[row]]: a workgroup a row. The table may be some rows of a larger one, from FIRST_TOKEN on; rows of
// other tokens are left alone.
//
// tokens  u32[m]     table  W4[TOKENS, COLS4], see w_*.wgsl     x  f32[m, COLS4 * 4]
// The grid is m, folded over two dimensions. No features.

@group(0) @binding(0) var<storage, read> tokens: array<u32>;
@group(0) @binding(1) var<storage, read> table: array<W4>;
@group(0) @binding(2) var<storage, read_write> x: array<vec4<f32>>;

const THREADS = 64u;

@compute @workgroup_size(THREADS)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let row = workgroup.y * grid.x + workgroup.x;
  if (row >= arrayLength(&tokens)) {
    return;
  }
  // Below FIRST_TOKEN this wraps around, past TOKENS.
  let entry = tokens[row] - FIRST_TOKEN;
  if (entry >= TOKENS) {
    return;
  }
  for (var i = thread; i < COLS4; i += THREADS) {
    x[row * COLS4 + i] = floats(table[entry * COLS4 + i]);
  }
}
