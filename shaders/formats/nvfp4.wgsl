// Block scales of NVFP4: non-negative E4M3, one byte per BLOCK_SIZE values; the tensor's scale is applied in the epilogue.
// w_scales: u8[n, chunks of a row, 32 / BLOCK_SIZE], four to a word.

@group(0) @binding(3) var<storage, read> w_scales: array<u32>;

fn block_scale(row: u32, block: u32) -> f32 {
  let i = row * (chunks_per_row() * (32u / BLOCK_SIZE)) + block;
  let byte = (w_scales[i >> 2u] >> ((i & 3u) * 8u)) & 0x7Fu;
  // Normal numbers: move exponent and mantissa into place and change the bias from 7 to 127. Subnormals: byte · 2^-9.
  return select(bitcast<f32>((byte << 20u) + (120u << 23u)), f32(byte) * 0x1p-9, byte < 8u);
}
