// Sums over a part of k, to be added up by reduce_splits.wgsl.
// y: f32[splits, m, n]

@group(0) @binding(5) var<storage, read_write> y: array<f32>;

fn epilogue(value: f32, row: u32, col: u32) {
  y[(part_of_k * problem.m + row) * problem.n + col] = value;
}
