// y[m, n] = x[m, k] · w[n, k]ᵀ (+ bias[n]) (+ y): what every kernel is given, by problem_uniform.wgsl or
// problem_immediates.wgsl.

struct Problem {
  m: u32,
  // Rows of these weights, which may be a part of a larger matrix.
  n: u32,
  // A multiple of BLOCK_SIZE.
  k: u32,
  // The tensor's scale: 1 for mxfp4.
  global_scale: f32,
  // Columns of y, and where those of these weights begin.
  columns: u32,
  first_col: u32,
}

// Which of SPLIT_K parts of k a workgroup sums over, for the epilogue.
var<private> part_of_k: u32;
