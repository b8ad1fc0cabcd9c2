// Macro factors, one byte each, four to a word; see store_scales.wgsl.

@group(0) @binding(4) var<storage, read_write> factors: array<atomic<u32>>;

fn store_factor(index: u32, byte: u32) {
  let shift = (index & 3u) * 8u;
  atomicAnd(&factors[index >> 2u], ~(255u << shift));
  atomicOr(&factors[index >> 2u], byte << shift);
}

// Up to four bytes of a word, at once: those that `mask` covers.
fn store_factors(word: u32, bytes: u32, mask: u32) {
  if (mask == 0xFFFFFFFFu) {
    atomicStore(&factors[word], bytes);
  } else if (mask != 0u) {
    atomicAnd(&factors[word], ~mask);
    atomicOr(&factors[word], bytes);
  }
}
