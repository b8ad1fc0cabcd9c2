// For each scale byte of NVFP4, the least magnitudes that round to each code: as y = fl32(x · encode) grows with x,
// a code is a count of thresholds that x has reached, and no element needs the product.
//
// A thread finds one threshold by bisection over bit patterns. Shared: 256 bytes. Features: none.

@group(0) @binding(7) var<storage, read_write> tensor: Tensor;

var<workgroup> found: array<u32, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let byte = ((workgroup.y * grid.x + workgroup.x) * WORKGROUP + thread) / 8u;
  let code = thread % 8u + 1u;
  var least_magnitude = F32_INFINITY;
  if (byte < 127u && code < 8u) {
    let unscaled = code_thresholds(0u);
    let least = select(unscaled.low, unscaled.high, code > 4u)[(code - 1u) % 4u];
    let encode = tensor.encode[byte];
    // The answer is in [below, least_magnitude].
    var below = 0u;
    for (var i = 0u; i < 31u; i++) {
      let middle = (below + least_magnitude) / 2u;
      if (middle < F32_INFINITY && soft_mul(middle, encode) < least) {
        below = middle + 1u;
      } else {
        least_magnitude = middle;
      }
    }
  }
  found[thread] = least_magnitude;
  workgroupBarrier();
  if (byte < 127u && thread % 4u == 0u) {
    let four = vec4<u32>(found[thread], found[thread + 1u], found[thread + 2u], found[thread + 3u]);
    if (thread % 8u == 0u) {
      tensor.thresholds[byte].low = four;
    } else {
      tensor.thresholds[byte].high = four;
    }
  }
}
