// NVFP4 with 1d tiles and TransformerEngine's scales in one pass over x f32[rows, cols], the tensor's scale being known.
//
// codes   u8[rows, cols / 2], eight codes to a word
// scales  u8[rows, cols / 16]
//
// The matrix is one long row. A thread loads eight values and writes one word of codes; two threads share a block.
// A block with NaN or Inf gets scale byte 0x7F and codes 0.
//
// Shared: 1.5 · WORKGROUP · 4 bytes. Features: none.

@group(0) @binding(2) var<storage, read_write> codes: array<u32>;

var<workgroup> maxima: array<u32, WORKGROUP>;
var<workgroup> block_bytes: array<u32, WORKGROUP / 2u>;

@compute @workgroup_size(WORKGROUP)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let group = workgroup.y * grid.x + workgroup.x;
  let word = group * WORKGROUP + thread;
  let present = word < problem.rows * (problem.cols / 8u);
  var values: Eight;
  if (present) {
    values = load8(word);
  }
  let pairs = max(values.low & vec4<u32>(F32_MAGNITUDE), values.high & vec4<u32>(F32_MAGNITUDE));
  maxima[thread] = max(max(pairs.x, pairs.y), max(pairs.z, pairs.w));
  workgroupBarrier();

  let largest = max(maxima[thread], maxima[thread ^ 1u]);
  var byte = 0x7Fu;
  if (largest < F32_INFINITY) {
    byte = nv_block_byte(Region(), largest);
  }
  if (present) {
    var packed = 0u;
    if (byte == 0x7Fu) {
      report_non_finite(values, word);
    } else {
      packed = nv_codes(values, byte, word);
    }
    codes[word] = packed;
  }

  if (thread % 2u == 0u) {
    block_bytes[thread / 2u] = byte;
  }
  workgroupBarrier();
  const SCALE_WORDS = WORKGROUP / 8u;
  if (thread < SCALE_WORDS) {
    let slot = group * SCALE_WORDS + thread;
    let blocks = problem.rows * (problem.cols / 16u);
    var bytes = 0u;
    var mask = 0u;
    for (var i = 0u; i < 4u; i++) {
      if (4u * slot + i < blocks) {
        bytes |= block_bytes[4u * thread + i] << (8u * i);
        mask |= 255u << (8u * i);
      }
    }
    store_scales(slot, bytes, mask);
  }
}
