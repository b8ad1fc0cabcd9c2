// Block scales or macro factors from canonical to kernel order.
//
// canonical u8[rows, from_width], four to a word
// packed    u32[blocks of 32 rows, to_width, 8]: word j has rows j, 8 + j, 16 + j and 24 + j, filled up with zeros
//
// A thread makes a word. Shared: none. Features: none.

@group(0) @binding(1) var<storage, read> canonical: array<u32>;
@group(0) @binding(2) var<storage, read_write> packed: array<u32>;

@compute @workgroup_size(WORKGROUP)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let at = (workgroup.y * grid.x + workgroup.x) * WORKGROUP + thread;
  let block = at / 8u / problem.to_width;
  let i = at / 8u % problem.to_width;
  if (block >= (problem.rows + 31u) / 32u) {
    return;
  }
  var word = 0u;
  if (i < problem.from_width) {
    for (var b = 0u; b < 4u; b++) {
      let row = 32u * block + 8u * b + at % 8u;
      if (row < problem.rows) {
        let byte = 4u * problem.first_word + row * problem.from_width + i;
        word |= ((canonical[byte >> 2u] >> ((byte & 3u) * 8u)) & 0xFFu) << (8u * b);
      }
    }
  }
  packed[at] = word;
}
