// Scales of x in MXFP4: 2^(byte - 127), halved twice as codes of both operands are doubled.
// x_scales: u8[m, k / X_BLOCK], four to a word

@group(0) @binding(4) var<storage, read> x_scales: array<u32>;

// Bits of the scale of a block; subnormal ones may be zero.
fn x_scale(row: u32, block: u32) -> u32 {
  let i = row * (conversion.k / X_BLOCK) + block;
  let byte = (x_scales[i >> 2u] >> ((i & 3u) * 8u)) & 0xFFu;
  if (byte == 255u) {
    return NAN_BITS;
  }
  let quarter = (max(byte, 2u) - 2u) << 23u;
  return bitcast<u32>(bitcast<f32>(quarter) * x_macro(row, block));
}
