// Macro Block Scaling: E0M8 factors f = 1 + byte/256, one per MACRO_SIZE values along k; weights carry 1/f.
// w_macro: u32[blocks of 32 rows, ceil(k / MACRO_SIZE), 8]: byte b of word j is of row 8b + j.

@group(0) @binding(4) var<storage, read> w_macro: array<u32>;

// Chunks of a row that share a factor.
const MACRO_CHUNKS = MACRO_SIZE / 32u;

// 1/f, good to 2.5 ULP as divisions are.
fn macro_quotient(byte: u32) -> f32 {
  return 1.0 / bitcast<f32>(0x3F800000u | (byte << 15u));
}

// Likewise, and exact where f = 1.
fn macro_inverse(byte: u32) -> f32 {
  return select(macro_quotient(byte), 1.0, byte == 0u);
}

// Factors of rows j, 8 + j, … of a block of rows, for a chunk, and 1/f of row 8 · i + j out of them.
fn macro_word(block: u32, chunk: u32, j: u32) -> u32 {
  let macros = (size_k() + MACRO_SIZE - 1u) / MACRO_SIZE;
  return w_macro[(block * macros + chunk / MACRO_CHUNKS) * 8u + j];
}

fn macro_factor(word: u32, i: u32) -> f32 {
  return macro_inverse((word >> (8u * i)) & 0xFFu);
}
