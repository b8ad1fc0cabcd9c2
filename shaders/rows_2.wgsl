// Two rows of w a thread, eight apart; see rows_4.wgsl.

const ROWS = 2u;

struct RowCodes {
  a: vec4<u32>,
  b: vec4<u32>,
}

struct RowSums {
  a: x_sums,
  b: x_sums,
}

struct RowProducts {
  a: x_products,
  b: x_products,
}

fn load_codes(index: u32) -> RowCodes {
  return RowCodes(w_codes[index], w_codes[index + 8u]);
}

fn add_word(products: RowProducts, codes: RowCodes, i: u32, slab_chunk: u32) -> RowProducts {
  let x = load_x8(slab_chunk, i);
  return RowProducts(
    multiply8(dequant8(codes.a[i]), x, products.a),
    multiply8(dequant8(codes.b[i]), x, products.b),
  );
}

fn row_scales(words: ScaleWords, half: u32, first: u32) -> vec2<f32> {
  return vec2<f32>(scale_of(words, half, first), scale_of(words, half, first + 1u));
}

fn add_block(sums: RowSums, products: RowProducts, scales: vec2<f32>) -> RowSums {
  return RowSums(sums.a + finish(products.a) * scales.x, sums.b + finish(products.b) * scales.y);
}

fn store_row_sums(column: u32, j: u32, sums: RowSums) {
  store_sums(column, j, sums.a);
  store_sums(column, 8u + j, sums.b);
}
