// Block scales with rows padded to whole chunks, for blocks of sixteen where half of the last chunk of a row is empty.
//
// canonical u8[rows, k / 16], four to a word
// padded    u8[rows, chunks, 2], four to a word: a row's last byte is 0
//
// A thread makes a word. Shared: none. Features: none.

@group(0) @binding(1) var<storage, read> canonical: array<u32>;
@group(0) @binding(2) var<storage, read_write> padded: array<u32>;

@compute @workgroup_size(WORKGROUP)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let word = (workgroup.y * grid.x + workgroup.x) * WORKGROUP + thread;
  let width = 2u * chunks_per_row();
  let blocks = problem.k / 16u;
  let bytes = problem.rows * width;
  var packed = 0u;
  for (var i = 0u; i < 4u; i++) {
    let at = 4u * word + i;
    let row = at / width;
    let block = at - row * width;
    if (at < bytes && block < blocks) {
      let byte = 4u * problem.first_scale_word + row * blocks + block;
      packed |= ((canonical[byte >> 2u] >> ((byte & 3u) * 8u)) & 0xFFu) << (i * 8u);
    }
  }
  if (4u * word < bytes) {
    padded[word] = packed;
  }
}
