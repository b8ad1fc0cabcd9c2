// Elements of tiles as f16, sums as f32. The scale of a row of x is a power of two, weights are made relative to the largest
// scale of their row (formats/*_halves.wgsl).

const ELEMENT_BYTES = 2u;
alias element = f16;
alias sum_type = f32;

fn row_value(largest: u32) -> u32 {
  return largest;
}

// Decodes chunk `at` of a row of the tile, which is row 8 · i + j of a block.
fn put_chunk(tile_row: u32, at: u32, chunk: Chunk, i: u32, value: u32) {
  let low = chunk_half_scale(chunk, 0u, i, value);
  let high = chunk_half_scale(chunk, 1u, i, value);
  tile_put4(
    tile_row,
    at,
    halves8(chunk.codes.x, low),
    halves8(chunk.codes.y, low),
    halves8(chunk.codes.z, high),
    halves8(chunk.codes.w, high),
  );
}

// A sum as it was laid down, of a row of x and a row of w.
fn finish_sum(bits: u32, x_scale: f32, largest: u32) -> f32 {
  return undo_half_scale(bitcast<f32>(bits) * x_scale, largest);
}
