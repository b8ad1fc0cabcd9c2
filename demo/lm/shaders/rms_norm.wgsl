// y = x / sqrt(mean(x²) + eps) · weight (RMSNorm, arXiv 1910.07467): a workgroup a row, f32 throughout.
//
// x, y  f32[m, COLS4 * 4]     weight  f32[COLS4 * 4]     EPS_BITS is eps as the bits of an f32
// The grid is m, folded over two dimensions. Shared: 512 bytes. No features.

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

const THREADS = 128u;
var<workgroup> parts: array<f32, THREADS>;

@compute @workgroup_size(THREADS)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let row = workgroup.y * grid.x + workgroup.x;
  if (row >= arrayLength(&y) / COLS4) {
    return;
  }
  var squares = vec4<f32>();
  for (var i = thread; i < COLS4; i += THREADS) {
    let value = x[row * COLS4 + i];
    squares = fma(value, value, squares);
  }
  parts[thread] = (squares.x + squares.y) + (squares.z + squares.w);
  workgroupBarrier();
  for (var width = THREADS / 2u; width > 0u; width /= 2u) {
    if (thread < width) {
      parts[thread] += parts[thread + width];
    }
    workgroupBarrier();
  }
  let scale = inverseSqrt(parts[0] / f32(COLS4 * 4u) + bitcast<f32>(EPS_BITS));
  for (var i = thread; i < COLS4; i += THREADS) {
    y[row * COLS4 + i] = x[row * COLS4 + i] * scale * weight[i];
  }
}
