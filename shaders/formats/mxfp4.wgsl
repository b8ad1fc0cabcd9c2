// Block scales of MXFP4: E8M0, one byte per BLOCK_SIZE values.
// w_scales: u8[n, chunks of a row, 32 / BLOCK_SIZE], four to a word.

@group(0) @binding(3) var<storage, read> w_scales: array<u32>;

// Scale of block `block` of weight row `row`: 2^(byte - 127). Byte 0, 2^-127, is subnormal and may read as zero.
fn block_scale(row: u32, block: u32) -> f32 {
  let i = row * (chunks_per_row() * (32u / BLOCK_SIZE)) + block;
  let byte = (w_scales[i >> 2u] >> ((i & 3u) * 8u)) & 0xFFu;
  return bitcast<f32>(select(byte << 23u, 0x00400000u, byte == 0u));
}
