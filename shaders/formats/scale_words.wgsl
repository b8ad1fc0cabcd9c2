// Scales of the rows j, 8 + j, 16 + j and 24 + j of a block of rows for a chunk, a byte each: what a thread of gemv.wgsl
// has of them. With MBS, macro factors likewise.

struct ScaleWords {
  low: u32,
  // Of a chunk's second block, with blocks of sixteen.
  high: u32,
  macros: u32,
}

fn load_scale_words(block: u32, chunk: u32, j: u32) -> ScaleWords {
  const CHUNK_BLOCKS = 32u / BLOCK_SIZE;
  let at = (block * chunks_per_row() + chunk) * (8u * CHUNK_BLOCKS) + j;
  var words = ScaleWords(w_scales[at], 0u, macro_word(block, chunk, j));
  if (BLOCK_SIZE == 16u) {
    words.high = w_scales[at + 8u];
  }
  return words;
}

// Byte of row 8 · i + j in block `half` of the chunk.
fn scale_byte_of(words: ScaleWords, half: u32, i: u32) -> u32 {
  return (select(words.low, words.high, half == 1u) >> (8u * i)) & 0xFFu;
}

fn macro_byte_of(words: ScaleWords, i: u32) -> u32 {
  return (words.macros >> (8u * i)) & 0xFFu;
}

// What decoded values of row 8 · i + j have to be multiplied by, in block `half` of the chunk.
fn scale_of(words: ScaleWords, half: u32, i: u32) -> f32 {
  return scale_value(scale_byte_of(words, half, i)) * macro_factor(words.macros, i);
}
