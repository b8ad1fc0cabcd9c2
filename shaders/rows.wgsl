// ROWS rows of w a thread, eight apart, written out: arrays indexed in loops end in local memory on some drivers.

struct RowCodes {
  // repeat i < ROWS
  r$i: vec4<u32>,
  // end repeat
}

struct RowSums {
  // repeat i < ROWS
  r$i: x_sums,
  // end repeat
}

struct RowProducts {
  // repeat i < ROWS
  r$i: x_products,
  // end repeat
}

struct RowScales {
  // repeat i < ROWS
  r$i: f32,
  // end repeat
}

// A chunk of each row; `index` is that of the first row's.
fn load_codes(index: u32) -> RowCodes {
  return RowCodes(
    // repeat i < ROWS
    w_codes[index + $iu * 8u],
    // end repeat
  );
}

// Word `word` of the rows' chunks times x.
fn add_word(products: RowProducts, codes: RowCodes, word: u32, slab_chunk: u32) -> RowProducts {
  let x = load_x8(slab_chunk, word);
  return RowProducts(
    // repeat i < ROWS
    multiply8(dequant8(codes.r$i[word]), x, products.r$i),
    // end repeat
  );
}

// What finished products of the rows have to be multiplied by in block `half` of the chunk.
fn row_scales(words: ScaleWords, half: u32, first: u32) -> RowScales {
  return RowScales(
    // repeat i < ROWS
    scale_of(words, half, first + $iu),
    // end repeat
  );
}

fn add_block(sums: RowSums, products: RowProducts, unit: x_sums, scales: RowScales) -> RowSums {
  return RowSums(
    // repeat i < ROWS
    sums.r$i + finish(products.r$i, unit) * scales.r$i,
    // end repeat
  );
}

fn store_row_sums(column: u32, j: u32, sums: RowSums) {
  // repeat i < ROWS
  store_sums(column, $iu * 8u + j, sums.r$i);
  // end repeat
}
