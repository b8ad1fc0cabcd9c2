// Bytes of scales and macro factors, joined to words by shuffles: the first of the threads whose bytes make a word
// writes it. For matrices that are not RAGGED, in subgroups of at least 4 · BLOCK_THREADS and 4 · MACRO_THREADS
// invocations. Feature: subgroups.

// The byte of the thread's block among those of three neighbours; `lanes` threads share a byte.
fn join_bytes(thread: u32, byte: u32, lanes: u32) -> u32 {
  var word = byte << (thread / lanes % 4u * 8u);
  word |= subgroupShuffleXor(word, lanes);
  word |= subgroupShuffleXor(word, 2u * lanes);
  return word;
}

// Those of the four bytes of a word that are below `count`.
fn bytes_mask(word: u32, count: u32) -> u32 {
  return 0xFFFFFFFFu >> (32u - 8u * min(count - 4u * word, 4u));
}

fn store_bytes(group: u32, thread: u32, present: bool, byte: u32, factor: u32) {
  let unit = group * WORKGROUP + thread;
  let units = problem.rows * (problem.cols / 16u);
  let bytes = join_bytes(thread, select(0u, byte, present), BLOCK_THREADS);
  if (present && thread % (4u * BLOCK_THREADS) == 0u) {
    let word = unit / (4u * BLOCK_THREADS);
    store_scales(word, bytes, bytes_mask(word, units / BLOCK_THREADS));
  }
  if (MACRO_SIZE > 0u) {
    let factors = join_bytes(thread, select(0u, factor, present), MACRO_THREADS);
    if (present && thread % (4u * MACRO_THREADS) == 0u) {
      let word = unit / (4u * MACRO_THREADS);
      store_factors(word, factors, bytes_mask(word, units / MACRO_THREADS));
    }
  }
}
