// y = accumulator · tensor scale.
// y: f32[m, n]

@group(0) @binding(5) var<storage, read_write> y: array<f32>;

fn epilogue(value: f32, row: u32, col: u32) {
  y[row * problem.n + col] = value * problem.global_scale;
}
