// TransformerEngine's scale: the block's maximum times s_enc · fl32(1/6), rounded to E4M3.

fn nv_block_byte(block: Block, largest: u32) -> u32 {
  return encode_e4m3(soft_mul(largest, tensor.multiplier));
}
