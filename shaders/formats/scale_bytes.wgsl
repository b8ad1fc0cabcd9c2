// Block scales of w as bytes.
// w_scales: u8[n, chunks of a row, 32 / BLOCK_SIZE], four to a word.

@group(0) @binding(3) var<storage, read> w_scales: array<u32>;

// Byte of block `block` of row `row`.
fn scale_byte(row: u32, block: u32) -> u32 {
  let i = row * (chunks_per_row() * (32u / BLOCK_SIZE)) + block;
  return (w_scales[i >> 2u] >> ((i & 3u) * 8u)) & 0xFFu;
}

// The bytes of a chunk's blocks: one, or with blocks of sixteen two, the first in the low byte.
fn chunk_scale_bytes(row: u32, chunk: u32) -> u32 {
  let i = (row * chunks_per_row() + chunk) * (32u / BLOCK_SIZE);
  return (w_scales[i >> 2u] >> ((i & 3u) * 8u)) & select(0xFFFFu, 0xFFu, BLOCK_SIZE == 32u);
}
