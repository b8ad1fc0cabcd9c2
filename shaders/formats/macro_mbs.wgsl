// Macro Block Scaling: E0M8 factors f = 1 + byte/256, one per MACRO_SIZE values along k; weights carry 1/f.
// w_macro: u8[n, ceil(k / MACRO_SIZE)], four to a word.

@group(0) @binding(4) var<storage, read> w_macro: array<u32>;

// 1/f of the macro block that block `block` of weight row `row` belongs to.
fn macro_scale(row: u32, block: u32) -> f32 {
  let per_row = (problem.k + MACRO_SIZE - 1u) / MACRO_SIZE;
  let i = row * per_row + block / (MACRO_SIZE / BLOCK_SIZE);
  let byte = (w_macro[i >> 2u] >> ((i & 3u) * 8u)) & 0xFFu;
  // A division is only good to 2.5 ULP in WGSL; f = 1 has to be exact.
  return select(256.0 / f32(256u + byte), 1.0, byte == 0u);
}
