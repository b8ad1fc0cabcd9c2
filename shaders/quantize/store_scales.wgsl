// Block scales, one byte each, four to a word. A single byte is put in place by two atomics, which leave its
// neighbours alone whatever order they run in.

@group(0) @binding(3) var<storage, read_write> scales: array<atomic<u32>>;

fn store_scale(index: u32, byte: u32) {
  let shift = (index & 3u) * 8u;
  atomicAnd(&scales[index >> 2u], ~(255u << shift));
  atomicOr(&scales[index >> 2u], byte << shift);
}

// Up to four bytes of a word, at once: those that `mask` covers.
fn store_scales(word: u32, bytes: u32, mask: u32) {
  if (mask == 0xFFFFFFFFu) {
    atomicStore(&scales[word], bytes);
  } else if (mask != 0u) {
    atomicAnd(&scales[word], ~mask);
    atomicOr(&scales[word], bytes);
  }
}
