// w_row_max: u8[n], the largest scale byte of each row of w, four to a word.

@group(0) @binding(8) var<storage, read> w_row_max: array<u32>;

fn row_max_byte(row: u32) -> u32 {
  return (w_row_max[row >> 2u] >> ((row & 3u) * 8u)) & 0xFFu;
}

// Those of rows 4 · i and on.
fn row_max_word(i: u32) -> u32 {
  return w_row_max[i];
}
