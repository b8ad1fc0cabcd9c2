// Operands of plain_gemm.wgsl and plain_gemv.wgsl, and their last step. m, n and k can be anything; k is counted in vec4s. w
// may be some rows of a larger matrix: y has `stride` columns, and those of w begin at `first`.
//
// x  X[m, k], f32 or f16     w  W4[n, k / 4], see w_*.wgsl     y  f32[m, stride]
// Features: shader-f16 where X or w is f16.

struct Problem {
  m: u32,
  n: u32,
  k4: u32,
  stride: u32,
  first: u32,
}
@group(0) @binding(0) var<uniform> problem: Problem;
@group(0) @binding(1) var<storage, read> x: array<vec4<X>>;
@group(0) @binding(2) var<storage, read> w: array<W4>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

// Column `col` of w's part of y, added to where ACCUMULATE.
fn put(row: u32, col: u32, sum: f32) {
  let at = row * problem.stride + problem.first + col;
  if (ACCUMULATE) {
    y[at] += sum;
  } else {
    y[at] = sum;
  }
}
