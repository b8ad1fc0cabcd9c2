// Scale rules that depend on the block's maximum alone.

fn mx_block_byte(block: Region, factor: u32, largest: u32) -> u32 {
  return mx_scale_byte(largest, problem.bump);
}
