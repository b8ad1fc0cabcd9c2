// Block scales of MXFP4: E8M0, one byte per BLOCK_SIZE values.

// Scale of block `block` of weight row `row`: 2^(byte - 127). Byte 0, 2^-127, is subnormal and may read as zero.
fn block_scale(row: u32, block: u32) -> f32 {
  let byte = scale_byte(row, block);
  return bitcast<f32>(select(byte << 23u, 0x00400000u, byte == 0u));
}
