// y[sequence] = x[sequence, LENGTH - 1]: a workgroup a sequence.
//
// x  f32[sequences, LENGTH, COLS4 * 4]     y  f32[sequences, COLS4 * 4]
// The grid is sequences, folded over two dimensions. No features.

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;

const THREADS = 64u;

@compute @workgroup_size(THREADS)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let sequence = workgroup.y * grid.x + workgroup.x;
  if (sequence >= arrayLength(&y) / COLS4) {
    return;
  }
  for (var i = thread; i < COLS4; i += THREADS) {
    y[sequence * COLS4 + i] = x[(sequence * LENGTH + LENGTH - 1u) * COLS4 + i];
  }
}
