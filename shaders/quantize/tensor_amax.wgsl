// Largest finite magnitude of x f32[rows, cols], as bits: one maximum for each of problem.partials workgroups, which
// take turns along x. The next step joins them.
//
// Shared: WORKGROUP · 4 bytes. Features: none.

@group(0) @binding(6) var<storage, read_write> partials: array<u32>;

var<workgroup> maxima: array<u32, WORKGROUP>;

fn finite_magnitudes(v: vec4<u32>) -> vec4<u32> {
  let magnitudes = v & vec4<u32>(0x7FFFFFFFu);
  return select(vec4<u32>(0u), magnitudes, magnitudes < vec4<u32>(0x7F800000u));
}

@compute @workgroup_size(WORKGROUP)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let group = workgroup.y * grid.x + workgroup.x;
  let count = problem.rows * (problem.cols / 4u);
  var largest = vec4<u32>();
  for (var i = group * WORKGROUP + thread; i < count; i += problem.partials * WORKGROUP) {
    largest = max(largest, finite_magnitudes(x[i]));
  }
  maxima[thread] = max(max(largest.x, largest.y), max(largest.z, largest.w));
  for (var half = WORKGROUP / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (thread < half) {
      maxima[thread] = max(maxima[thread], maxima[thread + half]);
    }
  }
  if (thread == 0u && group < problem.partials) {
    partials[group] = maxima[0];
  }
}
