// NVFP4's tensor scales, as tensor_scale has stored them.

@group(0) @binding(7) var<storage, read> tensor: Tensor;
