// No macro factors to store.

fn store_factors(word: u32, bytes: u32, mask: u32) {}
