// No macro factors.

fn choose_factor(values: Values, largest: u32, thread: u32) -> u32 {
  return 0u;
}

fn store_factors(word: u32, bytes: u32, mask: u32) {}
