// Adds the sums over parts of k, always in the same order, and finishes them as the epilogue says.
//
// partials  f32[SPLIT_K, m, n], read by partials4
//
// A thread takes four neighbouring columns. Features: none. Roundings: SPLIT_K.

@compute @workgroup_size(WORKGROUP)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let i = (workgroup.y * grid.x + workgroup.x) * WORKGROUP + thread;
  let quads = (problem.n + 3u) / 4u;
  let row = i / quads;
  let col = i % quads * 4u;
  if (row >= problem.m) {
    return;
  }
  var sum = partials4(row * problem.n + col);
  for (var part = 1u; part < SPLIT_K; part++) {
    sum += partials4((part * problem.m + row) * problem.n + col);
  }
  epilogue4(sum, row, col);
}
