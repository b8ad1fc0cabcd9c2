// Codes of x f32[rows, cols] under scales (and macro factors) that earlier steps have stored.
//
// codes   u8[rows, cols / 2], eight codes to a word
//
// A thread encodes eight values, which lie in one block. Values under the NaN scale get codes 0, and those that are
// not finite are reported. Features: none.

@group(0) @binding(2) var<storage, read_write> codes: array<u32>;

@compute @workgroup_size(WORKGROUP)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let word = (workgroup.y * grid.x + workgroup.x) * WORKGROUP + thread;
  let words_per_row = problem.cols / 8u;
  if (word >= problem.rows * words_per_row) {
    return;
  }
  let row = word / words_per_row;
  let col = word % words_per_row * 8u;
  let values = load8(word);
  let byte = scale_byte(row, col);
  var packed = 0u;
  if (byte == NAN_BYTE) {
    report_non_finite(values, word);
  } else {
    packed = element_codes(values, byte, row, col, word);
  }
  codes[word] = packed;
}
