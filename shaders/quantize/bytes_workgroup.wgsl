// Bytes of scales and macro factors, joined to words in workgroup memory: the bytes of a workgroup's blocks follow each
// other in the matrix, and so do those of its macro blocks. Words are written whole but for the ends of what a
// workgroup has, which it may share with its neighbours.
// Shared: WORKGROUP · (1 / BLOCK_THREADS + 1 / MACRO_THREADS) · 4 bytes. Features: none.

var<workgroup> block_bytes: array<u32, WORKGROUP / BLOCK_THREADS>;
var<workgroup> macro_bytes: array<u32, WORKGROUP / MACRO_THREADS>;

// Blocks of the matrix that the threads before `thread`, the first of a block, take.
fn blocks_before(thread: u32) -> u32 {
  if (RAGGED) {
    const PER_ROW = COLS / BLOCK_SIZE;
    let row = thread / ROW_THREADS;
    return min(row, problem.rows) * PER_ROW +
      select(0u, min(thread % ROW_THREADS / BLOCK_THREADS, PER_ROW), row < problem.rows);
  }
  return min(thread / BLOCK_THREADS, problem.rows * (problem.cols / BLOCK_SIZE));
}

fn store_bytes(group: u32, thread: u32, present: bool, byte: u32, factor: u32) {
  let first = blocks_before(group * WORKGROUP);
  let end = blocks_before(group * WORKGROUP + WORKGROUP);
  if (present && thread % BLOCK_THREADS == 0u) {
    block_bytes[blocks_before(group * WORKGROUP + thread) - first] = byte;
  }
  if (MACRO_SIZE > 0u) {
    if (thread % MACRO_THREADS == 0u) {
      macro_bytes[thread / MACRO_THREADS] = factor;
    }
  }
  workgroupBarrier();
  if (thread <= WORKGROUP / BLOCK_THREADS / 4u) {
    let slot = first / 4u + thread;
    var bytes = 0u;
    var mask = 0u;
    for (var i = 0u; i < 4u; i++) {
      let index = 4u * slot + i;
      if (index >= first && index < end) {
        bytes |= block_bytes[index - first] << (8u * i);
        mask |= 255u << (8u * i);
      }
    }
    store_scales(slot, bytes, mask);
  }
  if (MACRO_SIZE > 0u) {
    const FACTOR_WORDS = WORKGROUP / MACRO_THREADS / 4u;
    if (thread < FACTOR_WORDS) {
      let slot = group * FACTOR_WORDS + thread;
      let row_threads = select(problem.cols / 16u, ROW_THREADS, RAGGED);
      let macros = problem.rows * (row_threads / MACRO_THREADS);
      var bytes = 0u;
      var mask = 0u;
      for (var i = 0u; i < 4u; i++) {
        if (4u * slot + i < macros) {
          bytes |= macro_bytes[4u * thread + i] << (8u * i);
          mask |= 255u << (8u * i);
        }
      }
      store_factors(slot, bytes, mask);
    }
  }
  // A kernel that takes turns writes these arrays again.
  if (TURNS) {
    workgroupBarrier();
  }
}
