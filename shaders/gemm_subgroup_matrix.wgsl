// y[m, n] = x[m, k] · w[n, k]ᵀ with subgroup matrices; elements and sums are those of matrix_f16.wgsl or matrix_i8.wgsl.
//
// x          elements, read by load_x of x_tiles.wgsl or x_tiles_rows.wgsl
// w_codes    kernel order: vec4<u32>[blocks of 32 rows, chunks of 32 codes, 32]
// w_row_max  the largest scale byte of each row of w, which its elements are relative to
//
// A workgroup of SUBGROUPS_M × SUBGROUPS_N subgroups computes TILE_M × TILE_N of y, a subgroup FRAGMENTS_M ×
// FRAGMENTS_N fragments of it. In steps of TILE_K along k it copies its tile of x to workgroup memory and decodes the
// weights of its columns beside it, once: X_LOADS pieces of sixteen bytes and W_LOADS chunks a thread. What the next step
// needs is on its way while the matrices multiply. Rows in workgroup memory are followed by sixteen empty bytes, so that
// the rows of a fragment lie in different banks.
// At the end each subgroup lays a row of fragments down in the same memory, to scale and store it row by row.
// Fragments need names, as drivers keep arrays of matrices that loops index in local memory, and offsets into workgroup
// memory have to be constants, as others are checked and selected at run time. So it is cut into parts of PART_ROWS rows.
// The grid is (tiles of m, tiles of n, SPLIT_K parts of k).
//
// Shared: (TILE_M + TILE_N) · (TILE_K · ELEMENT_BYTES + 16) bytes, or what sums need. Registers: FRAGMENTS_M ·
// FRAGMENTS_N · MMA_M · MMA_N / SUBGROUP_SIZE for sums, 4 · (X_LOADS + W_LOADS), about 60 besides.
// Features: subgroups, chromium-experimental-subgroup-matrix, and with f16 elements shader-f16.
// Error: elements as stated where they are made, f32 sums in an order that the device chooses.
//
// Measured on an H200, mxfp4, n = k = 4096, µs with the conversion of x (17 and 5.5 to f16, 12.5 and 5 to int8), m =
// 2048 and 512. f16: 128 × 128 × 64 with four subgroups 259 and 66, with eight 307 and 79; 64 × 128 × 64 393 and 101.
// int8 without it: 128 × 128 × 64 with four subgroups 139 and 50.2, of fragments of 16 × 8 132 and 49.6; 128 × 128 × 128 with
// eight 154 and 40.3; 64 × 64 × 128 204 and 52.5. Elsewhere fragments of 16 × 8 lose: 128 × 128 × 128 164, f16 253 for 238.
// Of 251 µs of f16 without conversion, matrices alone took 124; leaving out the staging of x saved 42, of w 66, of which
// decoding 28; barriers take 50 ns each. What mattered most, in µs at m = 2048 / 512 with f16: weights in blocks of 32
// rows instead of rows 291 → 246 / 93 → 82, x in tiles 15, steps of 64 instead of 32 (m = 512) 82 → 62, four columns at
// a time at the end 12 a tile, a constant number of rounds 291 → 267 / 76 → 70, indices cut where arrays are accessed
// 10, scales of x and of rows asked for at the beginning 267 → 263 / 70 → 67, no fragments that are loaded and not used
// 263 → 259 / 67 → 66. f16 rows as they are, m = 128, 512, 2048: 26, 65, 253, with the conversion 28, 64, 254.
// Lost: two tiles in turn, 383, with constant indices 396 and 93 (int8 234 and 52); two steps on the way, 250 against
// 246; touching the next lines for the cache, 327; a conflict-free order of stores whose loads are scattered, 271; 256 ×
// 128 tiles, 317, int8 140. int8 with x straight from memory, 196 for 132; subgroups of 32 × 64 or 64 × 32 in steps of 64,
// 181 to 194. At m = 512, where it takes 59.9 (with macro blocks of 128 65.0, and with their load and reciprocal out of the loop
// 64.8): scales of the next step made before the barrier, 60.6 (63.5, int8 42.0 for 40.4), its weights decoded there, 67.7;
// words of two chunks in turn, 63.9 (63.2), pieces of x among them, 66.5; each fragment of w loaded before its products, 59.9.

alias Left = subgroup_matrix_left<element, MMA_K, MMA_M>;
alias Right = subgroup_matrix_right<element, MMA_N, MMA_K>;
alias Sum = subgroup_matrix_result<sum_type, MMA_N, MMA_M>;

const SUBGROUPS = SUBGROUPS_M * SUBGROUPS_N;
const THREADS = SUBGROUPS * SUBGROUP_SIZE;
const SUBGROUP_M = FRAGMENTS_M * MMA_M;
const SUBGROUP_N = FRAGMENTS_N * MMA_N;
const TILE_M = SUBGROUPS_M * SUBGROUP_M;
const TILE_N = SUBGROUPS_N * SUBGROUP_N;
const TILE_K = STEP_FRAGMENTS * MMA_K;
const STEPS = (K + TILE_K - 1u) / TILE_K;
const SPLIT_STEPS = (STEPS + SPLIT_K - 1u) / SPLIT_K;
// Pieces of sixteen bytes that a row of x has in a step, and a tile of it.
const STEP_VECTORS = TILE_K * ELEMENT_BYTES / 16u;
const TILE_VECTORS = TILE_M * STEP_VECTORS;

// In words of workgroup memory (tile_*.wgsl): a row, a row of sums and a fragment of one.
const ROW = (TILE_K * ELEMENT_BYTES + 16u) / WORD;
const SUMS_ROW = (SUBGROUP_N * 4u + 16u) / WORD;
const SUMS = MMA_N * 4u / WORD;
// A fragment along k.
const FRAGMENT = MMA_K * ELEMENT_BYTES / WORD;
const PART_ROWS = min(SUBGROUP_M, SUBGROUP_N);
const X_PARTS = TILE_M / PART_ROWS;
const PARTS = max(X_PARTS + TILE_N / PART_ROWS, SUBGROUPS);
const PART = max(PART_ROWS * ROW, MMA_M * SUMS_ROW);

// What sums have to be multiplied by, asked for before they are there.
var<workgroup> tile_x_scales: array<f32, TILE_M>;
var<workgroup> tile_largest: array<u32, TILE_N / 4u>;

fn mma(a: Left, b: Right, sum: Sum) -> Sum {
  return subgroupMatrixMultiplyAccumulate(a, b, sum);
}

// Lays a row of fragments down, then scales and stores it.
fn store_sums(
  subgroup: u32,
  lane: u32,
  tile_row: u32,
  tile_col: u32,
  first_row: u32,
  first_quad: u32,
  // repeat j < FRAGMENTS_N
  s$j: Sum,
  // end repeat
) {
  workgroupBarrier();
  // repeat j < FRAGMENTS_N
  subgroupMatrixStore<row_major>(&tile[subgroup % SUBGROUPS], $ju * SUMS, s$j, SUMS_ROW);
  // end repeat
  workgroupBarrier();
  // Four columns a lane.
  const QUADS = SUBGROUP_N / 4u;
  for (var i = lane; i < MMA_M * QUADS; i += SUBGROUP_SIZE) {
    let row = first_row + i / QUADS;
    let quad = first_quad + i % QUADS;
    let y_row = tile_row + row;
    let y_col = tile_col + quad * 4u;
    if (y_row < problem.m && y_col < problem.n) {
      let sums = tile_sums4(subgroup, i / QUADS, i % QUADS);
      let x_scale = tile_x_scales[row % TILE_M];
      let largest = tile_largest[quad % (TILE_N / 4u)];
      let y4 = vec4<f32>(
        finish_sum(sums.x, x_scale, largest & 0xFFu),
        finish_sum(sums.y, x_scale, (largest >> 8u) & 0xFFu),
        finish_sum(sums.z, x_scale, (largest >> 16u) & 0xFFu),
        finish_sum(sums.w, x_scale, largest >> 24u),
      );
      epilogue4(y4, y_row, y_col);
    }
  }
}

@compute @workgroup_size(THREADS)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
  @builtin(subgroup_id) subgroup_id: u32,
  @builtin(subgroup_invocation_id) lane: u32,
) {
  let subgroup = subgroup_id % SUBGROUPS;
  let subgroup_m = subgroup % SUBGROUPS_M;
  let subgroup_n = subgroup / SUBGROUPS_M;
  let tile_m = workgroup.x;
  let first_col = workgroup.y * TILE_N;
  part_of_k = workgroup.z;
  let first_step = workgroup.z * SPLIT_STEPS;

  // Parts that fragments lie in.
  // repeat i < FRAGMENTS_M
  let left$i = subgroup_m * (SUBGROUP_M / PART_ROWS) + $iu * MMA_M / PART_ROWS;
  // end repeat
  // repeat j < FRAGMENTS_N
  let right$j = X_PARTS + subgroup_n * (SUBGROUP_N / PART_ROWS) + $ju * MMA_N / PART_ROWS;
  // end repeat

  // What the first step needs. x first: its pieces are put down first.
  let begin = min(first_step, STEPS - 1u);
  // repeat l < X_LOADS
  var x$l = load_x(begin, tile_m, thread + $lu * THREADS);
  // end repeat
  // repeat l < W_LOADS
  let row$l = first_col + w_row(thread) + $lu * LOAD_ROWS;
  let value$l = row_value(row_max_byte(row$l));
  var w$l = load_w(begin, row$l, thread);
  // end repeat
  for (var i = thread; i < TILE_M; i += THREADS) {
    tile_x_scales[i] = x_scale_of(tile_m * TILE_M + i);
  }
  if (thread < TILE_N / 4u) {
    tile_largest[thread] = row_max_word(first_col / 4u + thread);
  }

  // repeat i < FRAGMENTS_M
  // repeat j < FRAGMENTS_N
  var s$i$j: Sum;
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
    put_w($lu, thread, w$l, value$l);
    // end repeat
    workgroupBarrier();

    let next = min(step + 1u, STEPS - 1u);
    // repeat l < X_LOADS
    x$l = load_x(next, tile_m, thread + $lu * THREADS);
    // end repeat
    // repeat l < W_LOADS
    w$l = load_w(next, row$l, thread);
    // end repeat

    // repeat q < STEP_FRAGMENTS
    {
      // repeat i < FRAGMENTS_M
      let a$i = subgroupMatrixLoad<Left, row_major>(&tile[left$i], $iu * MMA_M % PART_ROWS * ROW + $qu * FRAGMENT, ROW);
      // end repeat
      // repeat j < FRAGMENTS_N
      let b$j = subgroupMatrixLoad<Right, col_major>(&tile[right$j], $ju * MMA_N % PART_ROWS * ROW + $qu * FRAGMENT, ROW);
      // end repeat
      // repeat i < FRAGMENTS_M
      // repeat j < FRAGMENTS_N
      s$i$j = mma(a$i, b$j, s$i$j);
      // end repeat
      // end repeat
    }
    // end repeat
    workgroupBarrier();
  }

  let row = subgroup_m * SUBGROUP_M;
  let quad = subgroup_n * (SUBGROUP_N / 4u);
  // repeat i < FRAGMENTS_M
  store_sums(
    subgroup, lane, tile_m * TILE_M, first_col, row + $iu * MMA_M, quad,
    // repeat j < FRAGMENTS_N
    s$i$j,
    // end repeat
  );
  // end repeat
}
