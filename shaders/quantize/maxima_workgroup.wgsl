// Maxima of the threads of a block and of a macro block, through workgroup memory. Every thread of the workgroup calls
// both, in this order. Shared: WORKGROUP · (1 + 1 / BLOCK_THREADS) · 4 bytes. Features: none.

var<workgroup> maxima: array<u32, WORKGROUP>;
var<workgroup> block_maxima: array<u32, WORKGROUP / BLOCK_THREADS>;

fn block_maximum(thread: u32, mine: u32) -> u32 {
  if (BLOCK_THREADS == 1u) {
    return mine;
  }
  maxima[thread] = mine;
  workgroupBarrier();
  var largest = 0u;
  for (var i = 0u; i < BLOCK_THREADS; i++) {
    largest = max(largest, maxima[thread / BLOCK_THREADS * BLOCK_THREADS + i]);
  }
  return largest;
}

// `mine` is the maximum of the thread's block.
fn macro_maximum(thread: u32, mine: u32) -> u32 {
  const BLOCKS = max(MACRO_THREADS / BLOCK_THREADS, 1u);
  if (BLOCKS == 1u) {
    return mine;
  }
  if (thread % BLOCK_THREADS == 0u) {
    block_maxima[thread / BLOCK_THREADS] = mine;
  }
  workgroupBarrier();
  var largest = 0u;
  for (var i = 0u; i < BLOCKS; i++) {
    largest = max(largest, block_maxima[thread / MACRO_THREADS * BLOCKS + i]);
  }
  return largest;
}
