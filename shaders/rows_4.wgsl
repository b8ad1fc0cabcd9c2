// Four rows of w a thread, eight apart, written out: arrays indexed in loops end in local memory on some drivers.

const ROWS = 4u;

struct RowCodes {
  a: vec4<u32>,
  b: vec4<u32>,
  c: vec4<u32>,
  d: vec4<u32>,
}

struct RowSums {
  a: x_sums,
  b: x_sums,
  c: x_sums,
  d: x_sums,
}

struct RowProducts {
  a: x_products,
  b: x_products,
  c: x_products,
  d: x_products,
}

// A chunk of each row; `index` is that of the first row's.
fn load_codes(index: u32) -> RowCodes {
  return RowCodes(w_codes[index], w_codes[index + 8u], w_codes[index + 16u], w_codes[index + 24u]);
}

// Word `i` of the rows' chunks times x.
fn add_word(products: RowProducts, codes: RowCodes, i: u32, slab_chunk: u32) -> RowProducts {
  let x = load_x8(slab_chunk, i);
  return RowProducts(
    multiply8(dequant8(codes.a[i]), x, products.a),
    multiply8(dequant8(codes.b[i]), x, products.b),
    multiply8(dequant8(codes.c[i]), x, products.c),
    multiply8(dequant8(codes.d[i]), x, products.d),
  );
}

// What finished products of the rows have to be multiplied by in block `half` of the chunk.
fn row_scales(words: ScaleWords, half: u32, first: u32) -> vec4<f32> {
  return vec4<f32>(
    scale_of(words, half, 0u),
    scale_of(words, half, 1u),
    scale_of(words, half, 2u),
    scale_of(words, half, 3u),
  );
}

fn add_block(sums: RowSums, products: RowProducts, scales: vec4<f32>) -> RowSums {
  return RowSums(
    sums.a + finish(products.a) * scales.x,
    sums.b + finish(products.b) * scales.y,
    sums.c + finish(products.c) * scales.z,
    sums.d + finish(products.d) * scales.w,
  );
}

fn store_row_sums(column: u32, j: u32, sums: RowSums) {
  store_sums(column, j, sums.a);
  store_sums(column, 8u + j, sums.b);
  store_sums(column, 16u + j, sums.c);
  store_sums(column, 24u + j, sums.d);
}
