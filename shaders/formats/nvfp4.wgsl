// Block scales of NVFP4: non-negative E4M3, one byte per BLOCK_SIZE values; the tensor's scale is applied in the epilogue.
// Byte 127, which stands for NaN, counts as 480 here: nan_rows.wgsl looks for it once an element of y.

fn scale_value(byte: u32) -> f32 {
  let bits = byte & 0x7Fu;
  // Normal numbers: move exponent and mantissa into place and change the bias from 7 to 127. Subnormals: bits · 2^-9.
  return select(bitcast<f32>((bits << 20u) + (120u << 23u)), f32(bits) * 0x1p-9, bits < 8u);
}
