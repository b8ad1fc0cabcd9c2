// What NVFP4 blocks need to know of the tensor, as f32 bits.

struct Tensor {
  // s_enc · fl32(1/6): times a block's maximum it is the block's scale, before rounding to E4M3.
  multiplier: u32,
  // What elements are multiplied by under each scale byte; for byte 0, s_enc.
  encode: array<u32, 127>,
  // By scale byte; those of byte 0 mean nothing.
  thresholds: array<Thresholds, 127>,
}
