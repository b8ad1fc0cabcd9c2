// Block scales of MXFP4: E8M0, one byte per BLOCK_SIZE values.

// 2^(byte - 127). Byte 0, 2^-127, is subnormal and may read as zero.
fn scale_value(byte: u32) -> f32 {
  return bitcast<f32>(select(byte << 23u, 0x00400000u, byte == 0u));
}
