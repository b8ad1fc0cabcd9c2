// NVFP4's tensor scales, as tensor_scale has stored them.

struct Tensor {
  multiplier: u32,
  encode: array<u32, 127>,
}

@group(0) @binding(7) var<storage, read> tensor: Tensor;
