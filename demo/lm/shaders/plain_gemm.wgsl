// y[m, n] = x[m, k] · w[n, k]ᵀ, added to y where ACCUMULATE, with weights as they are, f32 products and sums: what a
// program without FP4 would run. The textbook tile: 64 × 64 of y a workgroup, 4 × 4 a thread, k in steps of 16 through
// workgroup memory. The grid is (tiles of n, tiles of m). Operands are those of plain.wgsl. Shared: 8704 bytes.

// Transposed: [step of k][row], a row of 64 and a vec4 to spare against bank conflicts.
var<workgroup> x_tile: array<array<vec4<f32>, 17>, 16>;
var<workgroup> w_tile: array<array<vec4<f32>, 17>, 16>;

@compute @workgroup_size(16, 16)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(local_invocation_id) local: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let first_row = workgroup.y * 64u;
  let first_col = workgroup.x * 64u;
  // A thread loads one vec4 of a row of x and one of a row of w a step.
  let load_row = thread / 4u;
  let load_k = thread % 4u;
  let x_row = first_row + load_row;
  let w_row = first_col + load_row;
  var sums0 = vec4<f32>();
  var sums1 = vec4<f32>();
  var sums2 = vec4<f32>();
  var sums3 = vec4<f32>();
  let steps = (problem.k4 + 3u) / 4u;
  for (var step = 0u; step < steps; step++) {
    let at = step * 4u + load_k;
    var from_x = vec4<f32>();
    var from_w = vec4<f32>();
    if (at < problem.k4) {
      if (x_row < problem.m) {
        from_x = vec4<f32>(x[x_row * problem.k4 + at]);
      }
      if (w_row < problem.n) {
        from_w = floats(w[w_row * problem.k4 + at]);
      }
    }
    workgroupBarrier();
    for (var i = 0u; i < 4u; i++) {
      x_tile[load_k * 4u + i][load_row / 4u][load_row % 4u] = from_x[i];
      w_tile[load_k * 4u + i][load_row / 4u][load_row % 4u] = from_w[i];
    }
    workgroupBarrier();
    for (var i = 0u; i < 16u; i++) {
      let xs = x_tile[i][local.y];
      let ws = w_tile[i][local.x];
      sums0 = fma(vec4<f32>(xs.x), ws, sums0);
      sums1 = fma(vec4<f32>(xs.y), ws, sums1);
      sums2 = fma(vec4<f32>(xs.z), ws, sums2);
      sums3 = fma(vec4<f32>(xs.w), ws, sums3);
    }
  }
  let row = first_row + local.y * 4u;
  let col = first_col + local.x * 4u;
  store(row, col, sums0);
  store(row + 1u, col, sums1);
  store(row + 2u, col, sums2);
  store(row + 3u, col, sums3);
}

fn store(row: u32, col: u32, sums: vec4<f32>) {
  if (row >= problem.m) {
    return;
  }
  for (var i = 0u; i < 4u; i++) {
    if (col + i < problem.n) {
      put(row, col + i, sums[i]);
    }
  }
}
