// Elements of gemm_subgroup_matrix.wgsl as f16, sums as f32. The scale of a row of x is a power of two, weights are made
// relative to the largest scale of their row (formats/*_halves.wgsl).

const ELEMENT_BYTES = 2u;
alias element = f16;
alias sum_type = f32;

fn row_value(largest: u32) -> u32 {
  return largest;
}

// Decodes a chunk to word `at` of a part and on: 64 bytes.
fn put_chunk(part: u32, at: u32, chunk: Chunk, row: u32) {
  let low = half_scale(chunk.scales & 0xFFu, chunk.macros, row);
  var high = low;
  if (BLOCK_SIZE == 16u) {
    high = half_scale(chunk.scales >> 8u, chunk.macros, row);
  }
  tile_store16(part, at, halves8(chunk.codes.x, low));
  tile_store16(part, at + VECTOR, halves8(chunk.codes.y, low));
  tile_store16(part, at + 2u * VECTOR, halves8(chunk.codes.z, high));
  tile_store16(part, at + 3u * VECTOR, halves8(chunk.codes.w, high));
}

// A sum as it was laid down, of a row of x and a row of w.
fn finish_sum(bits: u32, x_scale: f32, largest: u32) -> f32 {
  return undo_half_scale(bitcast<f32>(bits) * x_scale, largest);
}
