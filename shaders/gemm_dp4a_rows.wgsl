// y[m, n] = x[m, k] · w[n, k]ᵀ in int8 with a scale for each row of x and of w: exact integer sums over all of k.
//
// x          int8 in tiles (operands/int8_rows.wgsl), read by load_x
// w_codes    kernel order: vec4<u32>[blocks of 32 rows, chunks of 32 codes, 32]
// w_row_max  the largest scale byte of each row of w, which its integers are relative to (int8_weights.wgsl)
//
// A workgroup computes TILE_M × TILE_N of y in steps of TILE_K along k. Its threads stand in groups of 32, LANES_N of them
// along n; a thread computes THREAD_M × THREAD_N of y: rows 32 / LANES_N apart, columns in fours of neighbours. In each
// step x is copied to workgroup memory and weights are decoded beside it, once, X_LOADS pieces of sixteen bytes and
// W_LOADS chunks a thread; what the next step needs is on its way while a step multiplies. Both lie there as vec4s of
// sixteen values along k, those of all rows behind each other. Rows of w change places inside 32, so that a thread's
// columns are neighbours in y while neighbouring threads read neighbouring vec4s. A thread holds its columns and streams
// its rows past them.
// The grid is (tiles of m, tiles of n, SPLIT_K parts of k).
//
// Shared: (TILE_M + TILE_N + 8 / STEP_VECTORS) · TILE_K + TILE_M · 4 bytes. Registers: THREAD_M · THREAD_N for sums, 4 ·
// THREAD_N for columns, 4 · X_LOADS + 6 · W_LOADS for the next step, about 30 besides.
// Features: packed_4x8_integer_dot_product, a language feature, and what operands/int8_rows.wgsl needs.
// Error: only that of the integers, which is stated where they are made, and of the scales.
//
// Measured on an H200, mxfp4, n = k = 4096, µs with the conversion of x (12.5 and 5), m = 2048 and 512, by tile, values of
// a thread and threads along n: 128 × 64, 16 × 4, 16: 687 and 183; 8 × 8, 8: 714 and 190; 64 × 128, 16 × 4, 32: 702 and
// 187; 128 × 128, 16 × 4, 32: 719 and 192; 8 × 8, 8: 925 and 222; 64 × 64, 8 × 8, 8: 780 and 206. gemm_dp4a.wgsl takes 873
// and 228. m = 128 and 64, k in parts: 58 (128 × 64, four) and 38 (64 × 64, eight) against 83 and 83.
// Tried at m = 2048: two tiles in turn and one barrier a step, 128 × 128 742, 128 × 64 1164; steps of 128 1098; 16 × 8 a
// thread 917; rows held and columns streamed 727; a loop over the vec4s of a step 752. With nothing brought in but once it
// takes 705 of 712, so the products themselves are the limit.

// Rows and columns of 32 threads.
const LANES_M = 32u / LANES_N;
const GROUP_M = LANES_M * THREAD_M;
const GROUP_N = LANES_N * THREAD_N;
// Columns between a thread's fours.
const FOURS_APART = 4u * LANES_N;
const GROUPS_N = TILE_N / GROUP_N;
const THREADS = TILE_M / THREAD_M * (TILE_N / THREAD_N);
const STEPS = (K + TILE_K - 1u) / TILE_K;
const SPLIT_STEPS = (STEPS + SPLIT_K - 1u) / SPLIT_K;
const STEP_CHUNKS = TILE_K / 32u;
const STEP_VECTORS = TILE_K / 16u;
// vec4s of a tile, and of sixteen values along k; between those of x are some that stay empty, so that what threads write
// side by side lies in different banks.
const TILE_VECTORS = TILE_M * STEP_VECTORS;
const X_ROWS = TILE_M + 8u / STEP_VECTORS;

var<workgroup> x_tile: array<vec4<u32>, STEP_VECTORS * X_ROWS>;
var<workgroup> w_tile: array<vec4<u32>, STEP_VECTORS * TILE_N>;
// Asked for before they are there.
var<workgroup> tile_x_scales: array<f32, TILE_M>;

// Indices are cut where arrays are accessed: compilers do not see through calls that they are in range.
fn put_x(place: u32, values: vec4<u32>) {
  x_tile[place % STEP_VECTORS * X_ROWS + place / STEP_VECTORS % TILE_M] = values;
}

// Where a row of w stands that a thread decodes, and which one that is. Threads take the rows of a block, then the chunks
// of a step, then further blocks.
fn w_place(thread: u32) -> u32 {
  return thread / (32u * STEP_CHUNKS) * 32u + thread % 32u;
}

fn w_row(thread: u32) -> u32 {
  let place = w_place(thread);
  return place / 32u * 32u + place % 8u * 4u + place % 32u / 8u;
}

fn w_chunk(thread: u32) -> u32 {
  return thread / 32u % STEP_CHUNKS;
}

// Past the edges other weights are taken: of rows that are not stored, and of columns where x is zero.
fn load_w(step: u32, row: u32, step_chunk: u32) -> Chunk {
  var chunk = step * STEP_CHUNKS + step_chunk;
  if (K % TILE_K != 0u) {
    chunk = min(chunk, chunks_per_row() - 1u);
  }
  return load_chunk(row, chunk);
}

// Writes the two vec4s that a chunk has, chunk `chunk` of a step, where row `place` stands.
fn tile_put2(place: u32, chunk: u32, a: vec4<u32>, b: vec4<u32>) {
  let at = chunk % STEP_CHUNKS * 2u * TILE_N + place % TILE_N;
  w_tile[at] = a;
  w_tile[at + TILE_N] = b;
}

// sums + products of four values of x with four of each of four columns.
fn add_dots4(sums: vec4<i32>, x4: u32, a: u32, b: u32, c: u32, d: u32) -> vec4<i32> {
  return sums + vec4<i32>(dot4I8Packed(x4, a), dot4I8Packed(x4, b), dot4I8Packed(x4, c), dot4I8Packed(x4, d));
}

// Likewise of sixteen values.
fn add_dots(sums: vec4<i32>, x16: vec4<u32>, a: vec4<u32>, b: vec4<u32>, c: vec4<u32>, d: vec4<u32>) -> vec4<i32> {
  var s = add_dots4(sums, x16.x, a.x, b.x, c.x, d.x);
  s = add_dots4(s, x16.y, a.y, b.y, c.y, d.y);
  s = add_dots4(s, x16.z, a.z, b.z, c.z, d.z);
  return add_dots4(s, x16.w, a.w, b.w, c.w, d.w);
}

fn store(sums: vec4<i32>, x_scale: f32, largest: u32, row: u32, col: u32) {
  if (row < problem.m && col < problem.n) {
    let bits = bitcast<vec4<u32>>(sums);
    let y4 = vec4<f32>(
      finish_sum(bits.x, x_scale, largest & 0xFFu),
      finish_sum(bits.y, x_scale, (largest >> 8u) & 0xFFu),
      finish_sum(bits.z, x_scale, (largest >> 16u) & 0xFFu),
      finish_sum(bits.w, x_scale, largest >> 24u),
    );
    epilogue4(y4, row, col);
  }
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let tile_m = workgroup.x;
  let first_col = workgroup.y * TILE_N;
  part_of_k = workgroup.z;
  let first_step = workgroup.z * SPLIT_STEPS;

  // The thread's first row and columns in the tile, and its place among columns.
  let lane_n = thread % LANES_N;
  let tile_row = thread / 32u / GROUPS_N * GROUP_M + thread % 32u / LANES_N;
  let group_col = thread / 32u % GROUPS_N * GROUP_N;
  let tile_col = group_col + lane_n * 4u;
  let place_n = group_col + lane_n / 8u * 32u + lane_n % 8u;

  let begin = min(first_step, STEPS - 1u);
  // repeat l < X_LOADS
  var x$l = load_x(begin, tile_m, thread + $lu * THREADS);
  // end repeat
  // repeat l < W_LOADS
  let row$l = first_col + w_row(thread + $lu * THREADS);
  let value$l = row_value(row_max_byte(row$l));
  let chunk$l = w_chunk(thread + $lu * THREADS);
  var w$l = load_w(begin, row$l, chunk$l);
  // end repeat
  for (var i = thread; i < TILE_M; i += THREADS) {
    tile_x_scales[i] = x_scale_of(tile_m * TILE_M + i);
  }
  // repeat f < FOURS
  let largest$f = row_max_word((first_col + tile_col + $fu * FOURS_APART) / 4u);
  // end repeat

  // repeat i < THREAD_M
  // repeat f < FOURS
  var s$i_$f = vec4<i32>();
  // end repeat
  // end repeat
  for (var s = 0u; s < SPLIT_STEPS; s++) {
    let step = first_step + s;
    // Where it can be, the number of rounds is a constant.
    if (SPLIT_STEPS * SPLIT_K != STEPS && step >= STEPS) {
      break;
    }
    // repeat l < X_LOADS
    put_x(thread + $lu * THREADS, x$l);
    // end repeat
    // repeat l < W_LOADS
    put_chunk(w_place(thread + $lu * THREADS), chunk$l, w$l, row$l % 32u / 8u, value$l);
    // end repeat
    workgroupBarrier();

    let next = min(step + 1u, STEPS - 1u);
    // repeat l < X_LOADS
    x$l = load_x(next, tile_m, thread + $lu * THREADS);
    // end repeat
    // repeat l < W_LOADS
    w$l = load_w(next, row$l, chunk$l);
    // end repeat

    // repeat v < STEP_VECTORS
    {
      // repeat f < FOURS
      // repeat j < 4
      let w$f_$j = w_tile[$vu * TILE_N + place_n + $fu * FOURS_APART + $ju * 8u];
      // end repeat
      // end repeat
      // repeat i < THREAD_M
      {
        let x16 = x_tile[$vu * X_ROWS + tile_row + $iu * LANES_M];
        // repeat f < FOURS
        s$i_$f = add_dots(s$i_$f, x16, w$f_0, w$f_1, w$f_2, w$f_3);
        // end repeat
      }
      // end repeat
    }
    // end repeat
    workgroupBarrier();
  }

  let row = tile_m * TILE_M + tile_row;
  let col = first_col + tile_col;
  // repeat i < THREAD_M
  {
    let x_scale = tile_x_scales[tile_row + $iu * LANES_M];
    // repeat f < FOURS
    store(s$i_$f, x_scale, largest$f, row + $iu * LANES_M, col + $fu * FOURS_APART);
    // end repeat
  }
  // end repeat
}
