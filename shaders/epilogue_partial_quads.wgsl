// As epilogue_partial.wgsl, four neighbouring columns at a time, where n is a multiple of four.
// y: f32[splits, m, n]

@group(0) @binding(5) var<storage, read_write> y: array<vec4<f32>>;

fn epilogue4(values: vec4<f32>, row: u32, col: u32) {
  y[((part_of_k * problem.m + row) * problem.n + col) / 4u] = values;
}
