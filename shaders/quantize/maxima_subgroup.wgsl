// Maxima of the threads of a block and of a macro block, by shuffles inside a subgroup of at least MACRO_THREADS and
// BLOCK_THREADS invocations. Distances are written out: they are constants of the instruction then.
// Feature: subgroups.

fn block_maximum(thread: u32, mine: u32) -> u32 {
  var largest = mine;
  if (BLOCK_THREADS > 1u) {
    largest = max(largest, subgroupShuffleXor(largest, 1u));
  }
  return largest;
}

// `mine` is the maximum of the thread's block.
fn macro_maximum(thread: u32, mine: u32) -> u32 {
  var largest = mine;
  if (BLOCK_THREADS == 1u && MACRO_THREADS > 1u) {
    largest = max(largest, subgroupShuffleXor(largest, 1u));
  }
  if (MACRO_THREADS > 2u) {
    largest = max(largest, subgroupShuffleXor(largest, 2u));
  }
  if (MACRO_THREADS > 4u) {
    largest = max(largest, subgroupShuffleXor(largest, 4u));
  }
  return largest;
}
