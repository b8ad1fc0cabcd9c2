// No Macro Block Scaling.

const MACRO_CHUNKS = 1u;

fn macro_word(block: u32, chunk: u32, j: u32) -> u32 {
  return 0u;
}

fn macro_factor(word: u32, i: u32) -> f32 {
  return 1.0;
}
