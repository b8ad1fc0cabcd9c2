// NVFP4 with 1d tiles in one pass over x f32[rows, cols], after tensor_amax: tensor scale, block scales by the rule
// composed in, and codes.
//
// codes   u8[rows, cols / 2]
// scales  u8[rows, cols / 16]
//
// Each workgroup computes the tensor's scales, and what they make of every scale byte, on its own, which takes about
// two microseconds: hence as few workgroups as fill a GPU, which take turns along the matrix. The last values come
// first: they are what tensor_amax may have left in a cache. A thread takes a block of sixteen values at a time.
// A block with NaN or Inf gets scale byte 0x7F and codes 0.
//
// Measured on an NVIDIA H200 for 16384 × 4096 values, with tensor_amax, where a copy of the same bytes takes 74 µs: 169;
// four over six 1416. Before, with separate dispatches for the tensor's scale and for a table of thresholds of each scale
// byte, eight values a thread: 199 and 2580.
//
// Shared: 516 bytes, and those of the modules.

const BLOCK_THREADS = 1u;
const MACRO_SIZE = 0u;
const MACRO_THREADS = 1u;
const COLS = 0u;
const RAGGED = false;
const ROW_THREADS = 1u;
const TURNS = true;

var<workgroup> tensor: Tensor;

@compute @workgroup_size(WORKGROUP)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  join_partials(thread);
  workgroupBarrier();
  fill_tensor(thread, workgroup.x + workgroup.y == 0u);
  workgroupBarrier();

  let units = problem.rows * (problem.cols / 16u);
  let groups = grid.x * grid.y;
  let turns = (units + groups * WORKGROUP - 1u) / (groups * WORKGROUP);
  for (var turn = 0u; turn < turns; turn++) {
    let group = (turns - 1u - turn) * groups + workgroup.y * grid.x + workgroup.x;
    let unit = group * WORKGROUP + thread;
    let present = unit < units;
    var values = Values();
    if (present) {
      values = load_values(unit);
    }
    let largest = largest_magnitude(values);
    var byte = 0x7Fu;
    if (largest < F32_INFINITY) {
      byte = nv_block_byte(values, largest);
    }
    if (present) {
      var packed = vec2<u32>();
      if (byte == 0x7Fu) {
        report_values(values, unit);
      } else {
        packed.x = nv_codes(values.a, byte, 2u * unit);
        packed.y = nv_codes(values.b, byte, 2u * unit + 1u);
      }
      codes[unit] = packed;
    }
    store_bytes(group, thread, present, byte, 0u);
  }
}
