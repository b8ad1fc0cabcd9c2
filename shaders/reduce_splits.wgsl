// Adds the sums over parts of k, always in the same order, and finishes them as the epilogue says.
//
// partials  f32[SPLIT_K, m, n]
//
// A thread takes an element of y. Features: none. Roundings: SPLIT_K.

@group(0) @binding(1) var<storage, read> partials: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let at = (workgroup.y * grid.x + workgroup.x) * WORKGROUP + thread;
  let size = problem.m * problem.n;
  if (at >= size) {
    return;
  }
  var sum = partials[at];
  for (var i = 1u; i < SPLIT_K; i++) {
    sum += partials[i * size + at];
  }
  epilogue(sum, at / problem.n, at % problem.n);
}
