// The largest scale byte of each row.
//
// scales  u32[blocks of 32 rows, to_width, 8] in kernel order: byte b of word j is of row 8b + j
// row_max u8[rows], four to a word
//
// A workgroup takes a block of rows, 8 · LANES threads the words of its row. Shared: 128 bytes. Features: none.

@group(0) @binding(1) var<storage, read> scales: array<u32>;
@group(0) @binding(2) var<storage, read_write> row_max: array<u32>;

var<workgroup> largest: array<atomic<u32>, 32>;

@compute @workgroup_size(8u * LANES)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let block = workgroup.y * grid.x + workgroup.x;
  if (block >= (problem.rows + 31u) / 32u) {
    return;
  }
  var most = vec4<u32>();
  for (var i = thread; i < 8u * problem.to_width; i += 8u * LANES) {
    let word = scales[block * problem.to_width * 8u + i];
    most = max(most, (vec4<u32>(word) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(0xFFu));
  }
  for (var b = 0u; b < 4u; b++) {
    atomicMax(&largest[8u * b + thread % 8u], most[b]);
  }
  workgroupBarrier();
  let first = 32u * block + 4u * thread;
  if (thread < 8u && first < problem.rows) {
    var word = 0u;
    for (var b = 0u; b < 4u; b++) {
      word |= atomicLoad(&largest[4u * thread + b]) << (8u * b);
    }
    row_max[first / 4u] = word;
  }
}
