// The largest scale byte of each row.
//
// scales  u8[rows, chunks, 32 / BLOCK_SIZE] in kernel order, four to a word
// row_max u8[rows], four to a word
//
// A workgroup makes a word: LANES threads share one of its four rows. Rows need not begin at a word, so the words at
// their ends are masked. Shared: 16 bytes. Features: none.

@group(0) @binding(1) var<storage, read> scales: array<u32>;
@group(0) @binding(2) var<storage, read_write> row_max: array<u32>;

var<workgroup> largest: array<atomic<u32>, 4>;

fn largest_byte(word: u32) -> u32 {
  return max(max(word & 0xFFu, (word >> 8u) & 0xFFu), max((word >> 16u) & 0xFFu, word >> 24u));
}

@compute @workgroup_size(4u * LANES)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let word = workgroup.y * grid.x + workgroup.x;
  let row = 4u * word + thread / LANES;
  if (row < problem.rows) {
    let width = chunks_per_row() * (32u / BLOCK_SIZE);
    let begin = row * width;
    let end = begin + width;
    var most = 0u;
    for (var i = begin / 4u + thread % LANES; i < (end + 3u) / 4u; i += LANES) {
      var bytes = scales[i];
      if (4u * i < begin) {
        bytes &= 0xFFFFFFFFu << ((begin & 3u) * 8u);
      }
      if (4u * i + 4u > end) {
        bytes &= (1u << ((end & 3u) * 8u)) - 1u;
      }
      most = max(most, largest_byte(bytes));
    }
    atomicMax(&largest[thread / LANES], most);
  }
  workgroupBarrier();
  if (thread == 0u && 4u * word < problem.rows) {
    row_max[word] = atomicLoad(&largest[0]) | (atomicLoad(&largest[1]) << 8u) |
      (atomicLoad(&largest[2]) << 16u) | (atomicLoad(&largest[3]) << 24u);
  }
}
