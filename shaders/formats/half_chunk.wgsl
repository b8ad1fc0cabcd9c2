// Decoding of chunks to halves relative to their row's largest scale; see *_halves.wgsl.

// What halves8 takes for block `half` of a chunk of row 8 · i + j, whose largest scale byte is `largest`.
fn chunk_half_scale(chunk: Chunk, half: u32, i: u32, largest: u32) -> vec2<f16> {
  let block = select(0u, half, BLOCK_SIZE == 16u);
  return half_scale(scale_byte_of(chunk.scales, block, i), macro_byte_of(chunk.scales, i), largest);
}
