// y[m, n] = x[m, k] · w[n, k]ᵀ in int8: exact integer sums inside a block, f32 sums of blocks.
//
// x         int8 (operands/int8_layout.wgsl): vec4<u32>[cols / 16, rows], sixteen values each
// x_scales  vec4<f32>[cols / X_BLOCK, rows / 4], half the scale of x
// w_codes   kernel order: vec4<u32>[blocks of 32 rows, chunks of 32 codes, 32]
//
// y = Σ over blocks of (Σ xᵢ · 2wᵢ) · x_scale · w_scale, a block being the shorter of X_BLOCK and BLOCK_SIZE.
//
// A workgroup computes TILE_M × TILE_N of y in steps of TILE_K along k. Its threads stand in groups of 32, four along m
// by eight along n; a thread computes 8 × THREAD_N of y: rows in fours of neighbours, sixteen apart, columns eight
// apart, as the rows of w stand in kernel order. In each step x and scales are copied to workgroup memory, weights are
// decoded to int8 on the way, once; what the next step needs is on its way while a step multiplies. A thread holds a
// block of four columns in registers and streams its rows past it, so only four sums at a time are integers.
// Neighbouring threads read neighbouring vec4s or the same one, and write neighbours.
// Sums are written out, as arrays that loops index may end in local memory; indices built of the thread's number and
// constants need no check in every access (Dawn proves them to be inside).
// The grid is (tiles of m, tiles of n, SPLIT_K parts of k).
//
// Integer sums start at MAGIC, whose bits are those of the float 1.5 · 2^23: read as a float such a sum is 1.5 · 2^23 +
// sum, exactly, as |sum| ≤ 32 · 127 · 12 < 2^22. That takes a subtraction in place of a conversion.
//
// Shared: (TILE_M + TILE_N) · TILE_K · (1 + 4 / BLOCK) bytes, where both have blocks of BLOCK. Registers: 8 · THREAD_N
// for sums, 16 · VECTORS for columns, 4 · VECTORS for a row, 4 · (X_LOADS + W_LOADS) + 6 for the next step, about 30
// besides.
// Features: packed_4x8_integer_dot_product, a language feature.
// Roundings on the longest path of a sum: two a block, and those of the scales.
//
// Measured on an H200, mxfp4 with int8 x, n = k = 4096, µs without the conversion of x (5 and 14), m = 512 and 2048; a
// draft with sizes as constants, which scaled sums by w first: tiles of 128 × 64 × 64 with 8 × 8 a thread 215 and 814,
// with 16 × 4 222 and 819; 128 × 128 × 64 214 and 851, with 8 × 4 213 and 848; 64 × 64 × 64 250 and 894, with 8 × 4 221
// and 849; 128 × 128 × 32 221 and 885, in two stages 216 and 864. What it replaced, sums in an array:
// 228 with 128 × 128 × 64, 868 with 128 × 64 × 64.
// Tried at m = 2048, 128 × 128 × 64: sums scaled by x first, as here, 874 in place of 851; scales multiplied first 863;
// integers converted instead of starting at MAGIC 909; eight columns held 873; rows held 867; a loop over the blocks of
// a step, as here, 845. 128 × 64 × 64 in two stages 1378. Nothing brought in and no scales 726: the rest is the
// products themselves.

@group(0) @binding(1) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> w_codes: array<vec4<u32>>;
@group(0) @binding(7) var<storage, read> x_scales: array<vec4<f32>>;

const THREAD_M = 8u;
// Rows and columns of 32 threads.
const GROUP_M = 4u * THREAD_M;
const GROUP_N = 8u * THREAD_N;
const GROUPS_N = TILE_N / GROUP_N;
const THREADS = TILE_M / THREAD_M * (TILE_N / THREAD_N);
// A block with one scale of each operand, and its vec4s.
const BLOCK = min(X_BLOCK, BLOCK_SIZE);
const VECTORS = BLOCK / 16u;
const BLOCKS = TILE_K / BLOCK;
// What a step has along k: vectors of sixteen values, chunks of 32, blocks of each operand.
const STEP_VECTORS = TILE_K / 16u;
const STEP_CHUNKS = TILE_K / 32u;
const X_BLOCKS = TILE_K / X_BLOCK;
const W_BLOCKS = TILE_K / BLOCK_SIZE;
// What a thread brings in each step: two or four vectors of x, one or two chunks of w.
const X_LOADS = TILE_M * STEP_VECTORS / THREADS;
const W_LOADS = TILE_N * STEP_CHUNKS / THREADS;
// Threads that bring four scales each.
const X_SCALES = X_BLOCKS * TILE_M / 4u;
const W_SCALES = W_BLOCKS * TILE_N / 4u;
// From a block's first vectors to its last ones.
const X_SECOND = (VECTORS - 1u) * TILE_M;
const W_SECOND = (VECTORS - 1u) * TILE_N;

const MAGIC = vec4<i32>(0x4B400000i);
const MAGIC_VALUE = vec4<f32>(12582912.0);

var<workgroup> x_tile: array<vec4<u32>, STEP_VECTORS * TILE_M>;
var<workgroup> w_tile: array<vec4<u32>, STEP_VECTORS * TILE_N>;
var<workgroup> x_scale_tile: array<vec4<f32>, X_SCALES>;
var<workgroup> w_scale_tile: array<vec4<f32>, W_SCALES>;

// A block's values of four columns, eight apart: the first sixteen (0) and the last (1), the same in a short block.
struct Columns {
  a0: vec4<u32>,
  a1: vec4<u32>,
  b0: vec4<u32>,
  b1: vec4<u32>,
  c0: vec4<u32>,
  c1: vec4<u32>,
  d0: vec4<u32>,
  d1: vec4<u32>,
}

// Eight rows of four columns.
struct Sums {
  a: vec4<f32>,
  b: vec4<f32>,
  c: vec4<f32>,
  d: vec4<f32>,
  e: vec4<f32>,
  f: vec4<f32>,
  g: vec4<f32>,
  h: vec4<f32>,
}

// Bytes of the scales and macro factors of rows j, 8 + j, 16 + j and 24 + j of a block of rows.
struct WeightScales {
  scales: u32,
  macros: u32,
}

// Four values of x times four of each of four columns.
fn dots(x4: u32, w4: vec4<u32>) -> vec4<i32> {
  return vec4<i32>(
    dot4I8Packed(x4, w4.x),
    dot4I8Packed(x4, w4.y),
    dot4I8Packed(x4, w4.z),
    dot4I8Packed(x4, w4.w),
  );
}

// sums + products of sixteen values.
fn add_dots(sums: vec4<i32>, x16: vec4<u32>, a: vec4<u32>, b: vec4<u32>, c: vec4<u32>, d: vec4<u32>) -> vec4<i32> {
  var s = sums + dots(x16.x, vec4<u32>(a.x, b.x, c.x, d.x));
  s += dots(x16.y, vec4<u32>(a.y, b.y, c.y, d.y));
  s += dots(x16.z, vec4<u32>(a.z, b.z, c.z, d.z));
  return s + dots(x16.w, vec4<u32>(a.w, b.w, c.w, d.w));
}

// A row's sums and the products of a block. In this order none leaves the range of f32 unless the sum does.
fn add_block(
  sums: vec4<f32>,
  x0: vec4<u32>,
  x1: vec4<u32>,
  w: Columns,
  x_scale: f32,
  w_scale: vec4<f32>,
) -> vec4<f32> {
  var s = add_dots(MAGIC, x0, w.a0, w.b0, w.c0, w.d0);
  if (VECTORS == 2u) {
    s = add_dots(s, x1, w.a1, w.b1, w.c1, w.d1);
  }
  return fma((bitcast<vec4<f32>>(s) - MAGIC_VALUE) * x_scale, w_scale, sums);
}

// What a thread brings to place `place` of the tiles in a step. x is filled up to whole tiles.
fn load_x(place: u32, first_row: u32, step: u32) -> vec4<u32> {
  let vector = step * STEP_VECTORS + place / TILE_M;
  return x[vector * x_rows() + first_row + place % TILE_M];
}

fn load_x_scales(place: u32, first_row: u32, step: u32) -> vec4<f32> {
  let block = step * X_BLOCKS + place / (TILE_M / 4u);
  return x_scales[(block * x_rows() + first_row) / 4u + place % (TILE_M / 4u)];
}

fn x_rows() -> u32 {
  return (problem.m + TILE_M - 1u) / TILE_M * TILE_M;
}

// Past the edges other weights are taken: of rows that are not stored, and of columns where x is zero.
fn load_w(place: u32, first_block: u32, step: u32) -> vec4<u32> {
  let chunk = step * STEP_CHUNKS + place / 32u % STEP_CHUNKS;
  let block = first_block + place / (32u * STEP_CHUNKS);
  return w_codes[chunk_index(inside_n(block) * 32u + place % 32u, min(chunk, chunks_per_row() - 1u))];
}

fn load_w_scales(place: u32, first_block: u32, step: u32) -> WeightScales {
  let j = place % 8u;
  let rows = inside_n(first_block + place / (8u * W_BLOCKS));
  let width = chunks_per_row() * (32u / BLOCK_SIZE);
  let block = min(step * W_BLOCKS + place / 8u % W_BLOCKS, width - 1u);
  return WeightScales(w_scales[byte_word(rows * 32u + j, block, width)], macro_word(rows, block * BLOCK_SIZE / 32u, j));
}

// A block of rows, or the last one.
fn inside_n(block: u32) -> u32 {
  return min(block, (problem.n - 1u) / 32u);
}

fn put_w(place: u32, codes: vec4<u32>) {
  let chunk = place / 32u % STEP_CHUNKS;
  let block = place / (32u * STEP_CHUNKS) % (TILE_N / 32u);
  let at = 2u * chunk * TILE_N + 32u * block + place % 32u;
  w_tile[at] = vec4<u32>(doubled8(codes.x), doubled8(codes.y));
  w_tile[at + TILE_N] = vec4<u32>(doubled8(codes.z), doubled8(codes.w));
}

fn put_w_scales(place: u32, words: WeightScales) {
  let block = place / 8u % W_BLOCKS;
  let rows = place / (8u * W_BLOCKS) % (TILE_N / 32u);
  w_scale_tile[block * (TILE_N / 4u) + 8u * rows + place % 8u] =
    vec4<f32>(scale_of(words, 0u), scale_of(words, 1u), scale_of(words, 2u), scale_of(words, 3u));
}

fn scale_of(words: WeightScales, i: u32) -> f32 {
  return scale_value((words.scales >> (8u * i)) & 0xFFu) * macro_factor(words.macros, i);
}

// A row's sums of columns col, col + 8, col + 16 and col + 24.
fn store_row(sums: vec4<f32>, row: u32, col: u32) {
  if (row < problem.m) {
    store(sums.x, row, col);
    store(sums.y, row, col + 8u);
    store(sums.z, row, col + 16u);
    store(sums.w, row, col + 24u);
  }
}

fn store(sum: f32, row: u32, col: u32) {
  if (col < problem.n) {
    epilogue(sum, row, col);
  }
}

fn store_sums(s: Sums, row: u32, col: u32) {
  store_row(s.a, row, col);
  store_row(s.b, row + 1u, col);
  store_row(s.c, row + 2u, col);
  store_row(s.d, row + 3u, col);
  store_row(s.e, row + 16u, col);
  store_row(s.f, row + 17u, col);
  store_row(s.g, row + 18u, col);
  store_row(s.h, row + 19u, col);
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let first_row = workgroup.x * TILE_M;
  let first_col = workgroup.y * TILE_N;
  let first_block = first_col / 32u;
  let split = workgroup.z;
  part_of_k = split;

  // The thread's first row and column in the tile.
  let tile_row = thread / 32u / GROUPS_N * GROUP_M + 4u * (thread % 2u + 2u * (thread % 32u / 16u));
  let tile_col = thread / 32u % GROUPS_N * GROUP_N + thread % 32u / 2u % 8u;
  // The same among vec4s of scales, which have four neighbours of x, and columns eight apart of w.
  let row4 = thread / 32u / GROUPS_N * (GROUP_M / 4u) + thread % 2u + 2u * (thread % 32u / 16u);
  let col4 = thread / 32u % GROUPS_N * (GROUP_N / 4u) + thread % 32u / 2u % 8u;
  // The last threads bring scales of w, as the first bring those of x.
  let w_scale_place = (thread + W_SCALES) % THREADS;

  let steps = (problem.k + TILE_K - 1u) / TILE_K;
  let first_step = steps * split / SPLIT_K;
  let end_step = steps * (split + 1u) / SPLIT_K;

  var next_x0: vec4<u32>;
  var next_x1: vec4<u32>;
  var next_x2: vec4<u32>;
  var next_x3: vec4<u32>;
  var next_w0: vec4<u32>;
  var next_w1: vec4<u32>;
  var next_x_scales: vec4<f32>;
  var next_w_scales: WeightScales;
  var near = Sums();
  var far = Sums();
  let first = min(first_step, steps - 1u);
  next_x0 = load_x(thread, first_row, first);
  next_x1 = load_x(thread + THREADS, first_row, first);
  if (X_LOADS == 4u) {
    next_x2 = load_x(thread + 2u * THREADS, first_row, first);
    next_x3 = load_x(thread + 3u * THREADS, first_row, first);
  }
  next_w0 = load_w(thread, first_block, first);
  if (W_LOADS == 2u) {
    next_w1 = load_w(thread + THREADS, first_block, first);
  }
  if (thread < X_SCALES) {
    next_x_scales = load_x_scales(thread, first_row, first);
  }
  if (w_scale_place < W_SCALES) {
    next_w_scales = load_w_scales(w_scale_place, first_block, first);
  }

  for (var step = first_step; step < end_step; step++) {
    x_tile[thread] = next_x0;
    x_tile[thread + THREADS] = next_x1;
    if (X_LOADS == 4u) {
      x_tile[thread + 2u * THREADS] = next_x2;
      x_tile[thread + 3u * THREADS] = next_x3;
    }
    put_w(thread, next_w0);
    if (W_LOADS == 2u) {
      put_w(thread + THREADS, next_w1);
    }
    if (thread < X_SCALES) {
      x_scale_tile[thread] = next_x_scales;
    }
    if (w_scale_place < W_SCALES) {
      put_w_scales(w_scale_place, next_w_scales);
    }
    workgroupBarrier();

    let next = min(step + 1u, steps - 1u);
    next_x0 = load_x(thread, first_row, next);
    next_x1 = load_x(thread + THREADS, first_row, next);
    if (X_LOADS == 4u) {
      next_x2 = load_x(thread + 2u * THREADS, first_row, next);
      next_x3 = load_x(thread + 3u * THREADS, first_row, next);
    }
    next_w0 = load_w(thread, first_block, next);
    if (W_LOADS == 2u) {
      next_w1 = load_w(thread + THREADS, first_block, next);
    }
    if (thread < X_SCALES) {
      next_x_scales = load_x_scales(thread, first_row, next);
    }
    if (w_scale_place < W_SCALES) {
      next_w_scales = load_w_scales(w_scale_place, first_block, next);
    }

    for (var block = 0u; block < BLOCKS; block++) {
      let x_at = block * VECTORS * TILE_M + tile_row;
      let w_at = block * VECTORS * TILE_N + tile_col;
      let x_scale_at = block * BLOCK / X_BLOCK * (TILE_M / 4u) + row4;
      let w_scale_at = block * BLOCK / BLOCK_SIZE * (TILE_N / 4u) + col4;
      let x_scale0 = x_scale_tile[x_scale_at];
      let x_scale1 = x_scale_tile[x_scale_at + 4u];
      {
        let w = Columns(
          w_tile[w_at],
          w_tile[w_at + W_SECOND],
          w_tile[w_at + 8u],
          w_tile[w_at + W_SECOND + 8u],
          w_tile[w_at + 16u],
          w_tile[w_at + W_SECOND + 16u],
          w_tile[w_at + 24u],
          w_tile[w_at + W_SECOND + 24u],
        );
        let w_scale = w_scale_tile[w_scale_at];
        near.a = add_block(near.a, x_tile[x_at], x_tile[x_at + X_SECOND], w, x_scale0.x, w_scale);
        near.b = add_block(near.b, x_tile[x_at + 1u], x_tile[x_at + X_SECOND + 1u], w, x_scale0.y, w_scale);
        near.c = add_block(near.c, x_tile[x_at + 2u], x_tile[x_at + X_SECOND + 2u], w, x_scale0.z, w_scale);
        near.d = add_block(near.d, x_tile[x_at + 3u], x_tile[x_at + X_SECOND + 3u], w, x_scale0.w, w_scale);
        near.e = add_block(near.e, x_tile[x_at + 16u], x_tile[x_at + X_SECOND + 16u], w, x_scale1.x, w_scale);
        near.f = add_block(near.f, x_tile[x_at + 17u], x_tile[x_at + X_SECOND + 17u], w, x_scale1.y, w_scale);
        near.g = add_block(near.g, x_tile[x_at + 18u], x_tile[x_at + X_SECOND + 18u], w, x_scale1.z, w_scale);
        near.h = add_block(near.h, x_tile[x_at + 19u], x_tile[x_at + X_SECOND + 19u], w, x_scale1.w, w_scale);
      }
      if (THREAD_N == 8u) {
        let w = Columns(
          w_tile[w_at + 32u],
          w_tile[w_at + W_SECOND + 32u],
          w_tile[w_at + 40u],
          w_tile[w_at + W_SECOND + 40u],
          w_tile[w_at + 48u],
          w_tile[w_at + W_SECOND + 48u],
          w_tile[w_at + 56u],
          w_tile[w_at + W_SECOND + 56u],
        );
        let w_scale = w_scale_tile[w_scale_at + 8u];
        far.a = add_block(far.a, x_tile[x_at], x_tile[x_at + X_SECOND], w, x_scale0.x, w_scale);
        far.b = add_block(far.b, x_tile[x_at + 1u], x_tile[x_at + X_SECOND + 1u], w, x_scale0.y, w_scale);
        far.c = add_block(far.c, x_tile[x_at + 2u], x_tile[x_at + X_SECOND + 2u], w, x_scale0.z, w_scale);
        far.d = add_block(far.d, x_tile[x_at + 3u], x_tile[x_at + X_SECOND + 3u], w, x_scale0.w, w_scale);
        far.e = add_block(far.e, x_tile[x_at + 16u], x_tile[x_at + X_SECOND + 16u], w, x_scale1.x, w_scale);
        far.f = add_block(far.f, x_tile[x_at + 17u], x_tile[x_at + X_SECOND + 17u], w, x_scale1.y, w_scale);
        far.g = add_block(far.g, x_tile[x_at + 18u], x_tile[x_at + X_SECOND + 18u], w, x_scale1.z, w_scale);
        far.h = add_block(far.h, x_tile[x_at + 19u], x_tile[x_at + X_SECOND + 19u], w, x_scale1.w, w_scale);
      }
    }
    workgroupBarrier();
  }

  let row = first_row + tile_row;
  let col = first_col + tile_col;
  store_sums(near, row, col);
  if (THREAD_N == 8u) {
    store_sums(far, row, col + 32u);
  }
}
