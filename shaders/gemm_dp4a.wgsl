// y[m, n] = x[m, k] · w[n, k]ᵀ in int8: exact integer sums inside a block, f32 sums of blocks.
//
// x         int8 (operands/int8_layout.wgsl): vec4<u32>[cols / 16, rows], sixteen values each
// x_scales  f32[cols / X_BLOCK, rows], half the scale of x
// w_codes   kernel order: vec2<u32>[blocks of 32 rows, chunks of 32 codes, 32, 2], sixteen codes each
//
// y = Σ over blocks of (Σ xᵢ · 2wᵢ) · x_scale · w_scale, a block being the shorter of X_BLOCK and BLOCK_SIZE.
//
// A workgroup computes TILE_M × TILE_N of y in steps of TILE_K along k, a thread THREAD_M × THREAD_N of it: rows in
// groups of four neighbours, columns THREADS_X apart. In each step x and scales are copied to workgroup memory, weights
// are decoded to int8 on the way, once; what the next step needs is on its way while a step multiplies. A thread holds
// a block of its columns in registers and streams its rows past it, so only the sums of one row are integers at a time.
// Neighbouring threads read neighbouring vec4s or the same one. W_PAD keeps the writes of decoded weights in different
// banks. With STAGES = 2 tiles alternate between two places, and a step needs one barrier.
// The grid is (tiles of m, tiles of n, SPLIT_K parts of k).
//
// Integer sums start at MAGIC, whose bits are those of the float 1.5 · 2^23: read as a float such a sum
// is 1.5 · 2^23 + sum, exactly, as |sum| ≤ 32 · 127 · 12 < 2^22. That takes a subtraction in place of a conversion.
//
// Shared: at most STAGES · ((TILE_M + TILE_N) · TILE_K · 5 / 4 + 128) bytes. Registers: about THREAD_M · THREAD_N +
// 8 · THREAD_N + 50. Features: packed_4x8_integer_dot_product, a language feature.
// Roundings on the longest path of a sum: two a block, and those of the scales.
//
// Measured on an H200, mxfp4 with int8 x, n = k = 4096, µs with the conversion of x (5 and 14), m = 512 and 2048: tiles of
// 128 × 64 × 64 256 and 880; 128 × 128 × 64 in two stages with 8 × 4 a thread 233 and 928, with 16 × 4 237 and 943, with
// 8 × 8 241 and 958, in one stage 255 and 1044; 128 × 128 × 32 249 and 1024; 64 × 128 × 64 261 and 1041. Converting
// integers instead of starting at MAGIC: 1 % slower.

@group(0) @binding(1) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> w_codes: array<vec2<u32>>;
@group(0) @binding(7) var<storage, read> x_scales: array<f32>;

const THREADS_X = TILE_N / THREAD_N;
const THREADS_Y = TILE_M / THREAD_M;
const THREADS = THREADS_X * THREADS_Y;
// Groups of four columns of a thread.
const N4 = THREAD_N / 4u;
// A block with one scale of each operand, and its vec4s.
const BLOCK = min(X_BLOCK, BLOCK_SIZE);
const VECTORS = BLOCK / 16u;
const BLOCKS = TILE_K / BLOCK;
// Vectors of sixteen values along k of a step.
const STEP_VECTORS = TILE_K / 16u;
const X_BLOCKS = TILE_K / X_BLOCK;
const W_BLOCKS = TILE_K / BLOCK_SIZE;
// Vectors that a thread brings in each step.
const X_LOADS = TILE_M * STEP_VECTORS / THREADS;
const W_LOADS = TILE_N * STEP_VECTORS / THREADS;
const W_PAD = 8u / min(STEP_VECTORS, 8u);
const W_STRIDE = TILE_N + W_PAD;

const MAGIC = 0x4B400000i;
const MAGIC_VALUE = 12582912.0;

var<workgroup> x_tile: array<vec4<u32>, STAGES * STEP_VECTORS * TILE_M>;
var<workgroup> w_tile: array<vec4<u32>, STAGES * STEP_VECTORS * W_STRIDE>;
var<workgroup> x_scale_tile: array<f32, STAGES * X_BLOCKS * TILE_M>;
var<workgroup> w_scale_tile: array<f32, STAGES * W_BLOCKS * TILE_N>;

// sum + a · b over sixteen values.
fn dot16(a: vec4<u32>, b: vec4<u32>, sum: i32) -> i32 {
  return sum + dot4I8Packed(a.x, b.x) + dot4I8Packed(a.y, b.y) + dot4I8Packed(a.z, b.z) + dot4I8Packed(a.w, b.w);
}

// Sums that started at MAGIC, as floats.
fn sums_f32(sums: vec4<i32>) -> vec4<f32> {
  return bitcast<vec4<f32>>(sums) - vec4<f32>(MAGIC_VALUE);
}

// What a thread brings to workgroup memory with its load `load` of a step. x is filled up to whole tiles.
fn load_x(step: u32, load: u32, first_row: u32) -> vec4<u32> {
  let vector = step * STEP_VECTORS + load / TILE_M;
  return x[vector * x_rows() + first_row + load % TILE_M];
}

fn load_x_scale(step: u32, load: u32, first_row: u32) -> f32 {
  let block = step * X_BLOCKS + load / TILE_M / (X_BLOCK / 16u);
  return x_scales[block * x_rows() + first_row + load % TILE_M];
}

fn x_rows() -> u32 {
  return (problem.m + TILE_M - 1u) / TILE_M * TILE_M;
}

// Past the edges other weights are taken: of rows that are not stored, and of columns where x is zero.
fn load_w(step: u32, load: u32, first_col: u32) -> vec2<u32> {
  let row = min(first_col + load / STEP_VECTORS, problem.n - 1u);
  let vector = min(step * STEP_VECTORS + load % STEP_VECTORS, 2u * chunks_per_row() - 1u);
  return w_codes[2u * chunk_index(row, vector / 2u) + vector % 2u];
}

fn load_w_scale(step: u32, load: u32, first_col: u32) -> f32 {
  let row = min(first_col + load / STEP_VECTORS, problem.n - 1u);
  let block = step * W_BLOCKS + load % STEP_VECTORS / (BLOCK_SIZE / 16u);
  let inside = min(block, problem.k / BLOCK_SIZE - 1u);
  return block_scale(row, inside) * macro_scale(row, inside);
}

@compute @workgroup_size(THREADS_X, THREADS_Y)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(local_invocation_id) local: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let first_row = workgroup.x * TILE_M;
  let first_col = workgroup.y * TILE_N;
  let split = workgroup.z;
  part_of_k = split;

  let steps = (problem.k + TILE_K - 1u) / TILE_K;
  let first_step = steps * split / SPLIT_K;
  let end_step = steps * (split + 1u) / SPLIT_K;

  var next_x: array<vec4<u32>, X_LOADS>;
  var next_x_scale: array<f32, X_LOADS>;
  for (var i = 0u; i < X_LOADS; i++) {
    next_x[i] = load_x(min(first_step, steps - 1u), thread + i * THREADS, first_row);
    next_x_scale[i] = load_x_scale(min(first_step, steps - 1u), thread + i * THREADS, first_row);
  }
  var next_w: array<vec2<u32>, W_LOADS>;
  var next_w_scale: array<f32, W_LOADS>;
  for (var i = 0u; i < W_LOADS; i++) {
    next_w[i] = load_w(first_step, thread + i * THREADS, first_col);
    next_w_scale[i] = load_w_scale(first_step, thread + i * THREADS, first_col);
  }

  var sums: array<vec4<f32>, THREAD_M * N4>;
  for (var step = first_step; step < end_step; step++) {
    let stage = step % STAGES;
    for (var i = 0u; i < X_LOADS; i++) {
      let load = thread + i * THREADS;
      let row = load % TILE_M;
      let vector = load / TILE_M;
      x_tile[(stage * STEP_VECTORS + vector) * TILE_M + row] = next_x[i];
      if (vector % (X_BLOCK / 16u) == 0u) {
        x_scale_tile[(stage * X_BLOCKS + vector / (X_BLOCK / 16u)) * TILE_M + row] = next_x_scale[i];
      }
    }
    for (var i = 0u; i < W_LOADS; i++) {
      let load = thread + i * THREADS;
      let row = load / STEP_VECTORS;
      let vector = load % STEP_VECTORS;
      w_tile[(stage * STEP_VECTORS + vector) * W_STRIDE + row] =
        vec4<u32>(doubled8(next_w[i].x), doubled8(next_w[i].y));
      if (vector % (BLOCK_SIZE / 16u) == 0u) {
        w_scale_tile[(stage * W_BLOCKS + vector / (BLOCK_SIZE / 16u)) * TILE_N + row] = next_w_scale[i];
      }
    }
    workgroupBarrier();

    let next = min(step + 1u, steps - 1u);
    for (var i = 0u; i < X_LOADS; i++) {
      next_x[i] = load_x(next, thread + i * THREADS, first_row);
      next_x_scale[i] = load_x_scale(next, thread + i * THREADS, first_row);
    }
    for (var i = 0u; i < W_LOADS; i++) {
      next_w[i] = load_w(next, thread + i * THREADS, first_col);
      next_w_scale[i] = load_w_scale(next, thread + i * THREADS, first_col);
    }

    for (var b = 0u; b < BLOCKS; b++) {
      let vector = stage * STEP_VECTORS + b * VECTORS;
      let x_block = stage * X_BLOCKS + b * BLOCK / X_BLOCK;
      let w_block = stage * W_BLOCKS + b * BLOCK / BLOCK_SIZE;
      var w: array<vec4<u32>, THREAD_N * VECTORS>;
      for (var c = 0u; c < THREAD_N; c++) {
        for (var v = 0u; v < VECTORS; v++) {
          w[c * VECTORS + v] = w_tile[(vector + v) * W_STRIDE + c * THREADS_X + local.x];
        }
      }
      var w_scale: array<vec4<f32>, N4>;
      for (var j = 0u; j < N4; j++) {
        let at = w_block * TILE_N + 4u * j * THREADS_X + local.x;
        w_scale[j] = vec4<f32>(
          w_scale_tile[at],
          w_scale_tile[at + THREADS_X],
          w_scale_tile[at + 2u * THREADS_X],
          w_scale_tile[at + 3u * THREADS_X],
        );
      }
      for (var i = 0u; i < THREAD_M; i++) {
        let row = (i / 4u * THREADS_Y + local.y) * 4u + i % 4u;
        let x_scale = x_scale_tile[x_block * TILE_M + row];
        let x0 = x_tile[vector * TILE_M + row];
        let x1 = x_tile[(vector + VECTORS - 1u) * TILE_M + row];
        for (var j = 0u; j < N4; j++) {
          let first = 4u * j * VECTORS;
          var dots = vec4<i32>(
            dot16(x0, w[first], MAGIC),
            dot16(x0, w[first + VECTORS], MAGIC),
            dot16(x0, w[first + 2u * VECTORS], MAGIC),
            dot16(x0, w[first + 3u * VECTORS], MAGIC),
          );
          if (VECTORS == 2u) {
            dots = vec4<i32>(
              dot16(x1, w[first + VECTORS - 1u], dots.x),
              dot16(x1, w[first + 2u * VECTORS - 1u], dots.y),
              dot16(x1, w[first + 3u * VECTORS - 1u], dots.z),
              dot16(x1, w[first + 4u * VECTORS - 1u], dots.w),
            );
          }
          // In this order no product leaves the range of f32 unless the sum does.
          sums[i * N4 + j] += (sums_f32(dots) * x_scale) * w_scale[j];
        }
      }
    }
    if (STAGES == 1u) {
      workgroupBarrier();
    }
  }

  for (var i = 0u; i < THREAD_M; i++) {
    let row = first_row + (i / 4u * THREADS_Y + local.y) * 4u + i % 4u;
    if (row < problem.m) {
      for (var c = 0u; c < THREAD_N; c++) {
        let col = first_col + c * THREADS_X + local.x;
        if (col < problem.n) {
          epilogue(sums[i * N4 + c / 4u][c % 4u], row, col);
        }
      }
    }
  }
}
