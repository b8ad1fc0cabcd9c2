// Block scales of NVFP4: non-negative E4M3, one byte per BLOCK_SIZE values; the tensor's scale is applied in the epilogue.
// Byte 127, which stands for NaN, counts as 480 here: nan_rows.wgsl looks for it once an element of y.

fn block_scale(row: u32, block: u32) -> f32 {
  let byte = scale_byte(row, block) & 0x7Fu;
  // Normal numbers: move exponent and mantissa into place and change the bias from 7 to 127. Subnormals: byte · 2^-9.
  return select(bitcast<f32>((byte << 20u) + (120u << 23u)), f32(byte) * 0x1p-9, byte < 8u);
}
