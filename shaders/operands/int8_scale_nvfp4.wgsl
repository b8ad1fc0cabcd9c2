// Scales of x in NVFP4: E4M3 times the tensor's scale, halved twice as codes of both operands are doubled.
// x_scales: u8[m, k / X_BLOCK], four to a word; x_global: the tensor's scale

@group(0) @binding(4) var<storage, read> x_scales: array<u32>;
@group(0) @binding(5) var<storage, read> x_global: array<f32>;

fn x_scale(row: u32, block: u32) -> u32 {
  let i = row * (conversion.k / X_BLOCK) + block;
  let byte = (x_scales[i >> 2u] >> ((i & 3u) * 8u)) & 0x7Fu;
  if (byte == 127u) {
    return NAN_BITS;
  }
  // As formats/nvfp4.wgsl.
  let scale = select(bitcast<f32>((byte << 20u) + (120u << 23u)), f32(byte) * 0x1p-9, byte < 8u);
  return bitcast<u32>(scale * 0.25 * x_global[0]);
}
