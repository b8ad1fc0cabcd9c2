// Codes of eight MXFP4 values.

const NAN_BYTE = 255u;

fn element_codes(values: Eight, byte: u32, row: u32, col: u32, word: u32) -> u32 {
  if (byte == 0u) {
    // The smallest scale, or zeros, whose codes are 0 whatever the signs.
    let block_col = col - col % problem.block_size;
    let block_row = row - row % problem.block_height;
    let height = min(problem.block_height, problem.rows - block_row);
    if (region_max(Region(block_row, block_col, height, problem.block_size)) == 0u) {
      return 0u;
    }
  }
  return encode_word(values, mx_encoder(factor_byte(row, col), byte), word);
}
