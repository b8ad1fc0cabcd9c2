// NVFP4 block scales; byte 0x7F for a block with NaN or Inf.

fn scale_of(block: Region, largest: u32) -> u32 {
  if (largest >= F32_INFINITY) {
    return 0x7Fu;
  }
  return nv_block_byte(block, largest);
}
