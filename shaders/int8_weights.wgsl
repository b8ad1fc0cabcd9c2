// Weights as int8 relative to the largest scale of their row. Sums of products with int8 x are exact as i32 up to k =
// 131072, as 127 · 96 · 131072 < 2^31.
//
// A weight is about int8 · reference / 16, where reference is the largest scale of its row, and int8 = round(16 · code ·
// scale / reference), at most 96. Without macro factors, MXFP4 is exact where a block's scale is at most three octaves
// below its row's largest; otherwise the error is half a step and what the rounded factor adds, 2^-11 of the weight.

// Decodes chunk `at` of a row of the tile, which is row 8 · i + j of a block of rows; tile_put2 writes it.
fn put_chunk(tile_row: u32, at: u32, chunk: Chunk, i: u32, value: u32) {
  let macros = macro_byte_of(chunk.scales, i);
  let low = int8_factor(relative_scale(scale_byte_of(chunk.scales, 0u, i), macros, value));
  var high = low;
  if (BLOCK_SIZE == 16u) {
    high = int8_factor(relative_scale(scale_byte_of(chunk.scales, 1u, i), macros, value));
  }
  tile_put2(
    tile_row,
    at,
    vec4<u32>(int8x8(chunk.codes.x, low), int8x8(chunk.codes.y, low)),
    vec4<u32>(int8x8(chunk.codes.z, high), int8x8(chunk.codes.w, high)),
  );
}

// A sum as it was laid down, of a row of x and a row of w.
fn finish_sum(bits: u32, x_scale: f32, largest: u32) -> f32 {
  let sum = f32(bitcast<i32>(bits)) * 0.0625;
  let reference = reference_scale(largest);
  // In this order no product leaves the range of f32 unless the result does: scales on either side of 1 first.
  let opposite = (x_scale < 1.0) != (reference < 1.0);
  return select((sum * x_scale) * reference, sum * (x_scale * reference), opposite);
}
