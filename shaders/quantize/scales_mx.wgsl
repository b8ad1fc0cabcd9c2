// MXFP4 block scales, under macro factors that an earlier step has stored; byte 255 for a block with NaN or Inf.

fn scale_of(block: Region, largest: u32) -> u32 {
  if (largest >= F32_INFINITY) {
    return 255u;
  }
  let factor = factor_byte(block.row, block.col);
  return mx_block_byte(block, factor, scale_up(largest, factor));
}
