// y[m, n] = x[m, k] · w[n, k]ᵀ for few rows of x, added to y where ACCUMULATE, with weights as they are: a workgroup a row
// of w, its products with a row of x added up in workgroup memory, one row of x after another. The grid is n, folded over
// two dimensions. Operands are those of plain.wgsl. Shared: 512 bytes.

const THREADS = 128u;
var<workgroup> parts: array<f32, THREADS>;

@compute @workgroup_size(THREADS)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let col = workgroup.y * groups.x + workgroup.x;
  for (var row = 0u; row < problem.m; row++) {
    var sums = vec4<f32>();
    if (col < problem.n) {
      let steps = (problem.k4 + THREADS - 1u) / THREADS;
      for (var step = 0u; step < steps; step++) {
        let at = step * THREADS + thread;
        if (at < problem.k4) {
          sums = fma(vec4<f32>(x[row * problem.k4 + at]), floats(w[col * problem.k4 + at]), sums);
        }
      }
    }
    parts[thread] = (sums.x + sums.y) + (sums.z + sums.w);
    workgroupBarrier();
    for (var width = THREADS / 2u; width > 0u; width /= 2u) {
      if (thread < width) {
        parts[thread] += parts[thread + width];
      }
      workgroupBarrier();
    }
    if (thread == 0u && col < problem.n) {
      put(row, col, parts[0]);
    }
    workgroupBarrier();
  }
}
