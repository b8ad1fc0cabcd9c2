// y[m, n] = x[m, k] · w[n, k]ᵀ with subgroup matrices: f16 operands, f32 sums, x straight from memory. Beside
// gemm_subgroup_matrix.wgsl it takes less workgroup memory: the better one where several workgroups share a core.
//
// x         f16 fragments (operands/half_fragments.wgsl): vec4<u32>[rows / MMA_M, cols / MMA_K, MMA_M, MMA_K / 8]
// x_scales  f32[rows]: what a row of sums has to be multiplied by
// w_codes   kernel order: vec4<u32>[blocks of 32 rows, chunks of 32 codes, 32]
//
// A workgroup of SUBGROUPS_M × SUBGROUPS_N subgroups computes TILE_M × TILE_N of y, a subgroup FRAGMENTS_M ×
// FRAGMENTS_N fragments of it. In steps of TILE_K along k the workgroup decodes and scales the weights of its columns
// into workgroup memory, once, LOADS chunks a thread; fragments of x are loaded straight from memory, where they lie in
// one piece. The codes of the next step are on their way while the matrices multiply. Rows of w in workgroup memory are
// followed by an empty vec4, so that the rows of a fragment lie in different banks.
// At the end each subgroup lays its sums down in its part of the same memory, two fragments at a time, to scale and store
// them row by row.
// Fragments need names, as drivers keep arrays of matrices that loops index in local memory, and offsets into workgroup
// memory have to be constants, as others are checked and selected at run time.
// The grid is (tiles of m, tiles of n, SPLIT_K parts of k).
//
// Shared: max(TILE_N · (TILE_K + 8) · 2, SUBGROUPS · MMA_M · (MMA_N / 2 + 1) · 16) bytes. Registers: FRAGMENTS_M ·
// FRAGMENTS_N · MMA_M · MMA_N / SUBGROUP_SIZE for sums, about 70 besides.
// Features: subgroups, shader-f16, chromium-experimental-subgroup-matrix.
// Error: operands as stated where they are made, sums in f32 in an order that the device chooses.
//
// Measured on an H200, mxfp4, n = k = 4096, µs with 17 and 6 for the conversion of x, m = 2048 and 512: 128 × 128 with
// eight subgroups of 32 × 64 240 and 86, with four of 64 × 64 282 and 102; 128 × 64 318 and 118, k in two parts 84.
// gemm_subgroup_matrix.wgsl takes 259 and 66.
// Tried at m = 2048: a constant number of rounds, which helps there, 352; sums in an array that loops index 2055 (and
// wrong in places); offsets that are not constant 468; two tiles in turn and one barrier a step 377, with constant
// indices 358; rows of f16 x as they are 739; the next x fragments loaded before the barrier 310; whole rows of
// fragments laid down at the end, 8 KB more memory, 290; one text for this and gemm_subgroup_matrix.wgsl 350; factors
// of macro blocks in every other step, in a branch, 258 for 233.

@group(0) @binding(1) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(7) var<storage, read> x_scales: array<f32>;

alias Left = subgroup_matrix_left<f16, MMA_K, MMA_M>;
alias Right = subgroup_matrix_right<f16, MMA_N, MMA_K>;
alias Sum = subgroup_matrix_result<f32, MMA_N, MMA_M>;

const SUBGROUPS = SUBGROUPS_M * SUBGROUPS_N;
const THREADS = SUBGROUPS * SUBGROUP_SIZE;
const SUBGROUP_M = FRAGMENTS_M * MMA_M;
const SUBGROUP_N = FRAGMENTS_N * MMA_N;
const TILE_M = SUBGROUPS_M * SUBGROUP_M;
const TILE_N = SUBGROUPS_N * SUBGROUP_N;
const STEP_CHUNKS = TILE_K / 32u;
// vec4s of a row of w in workgroup memory.
const ROW = TILE_K / 8u + 1u;
// The tile of w is cut into as many parts as there are subgroups, so that indices inside a part are constant.
const PART_ROWS = TILE_N / SUBGROUPS;
// vec4s of a row of sums that is laid down.
const SUMS_ROW = 2u * MMA_N / 4u + 1u;
const PART = max(PART_ROWS * ROW, MMA_M * SUMS_ROW);
const LEFT_SIZE = MMA_M * MMA_K / 8u;
// Fours of columns that two fragments have.
const QUADS = 2u * MMA_N / 4u;
// Fragments of a step along k.
const STEP_FRAGMENTS = 4u;
const TILE_K = STEP_FRAGMENTS * MMA_K;

// A thread decodes the same chunk of every step, of rows LOAD_ROWS apart.
const LOAD_ROWS = THREADS / STEP_CHUNKS;

var<workgroup> tile: array<array<vec4<u32>, PART>, SUBGROUPS>;
// What sums have to be multiplied by, asked for before they are there.
var<workgroup> tile_x_scales: array<f32, TILE_M>;
var<workgroup> tile_largest: array<u32, TILE_N / 4u>;

// Chunk `chunk` of row `row` of the tile, whose first row is `first_col`. Past the edges other weights are taken: of
// rows that are not stored, and of columns where x is zero.
fn load_w(row: u32, first_col: u32, chunk: u32) -> Chunk {
  let chunks = chunks_per_row();
  let w_row = min(first_col + row, problem.n - 1u);
  let w_chunk = min(chunk, chunks - 1u);
  return load_chunk(w_row, w_chunk);
}

fn store_chunk(row: u32, thread_chunk: u32, chunk: Chunk, largest: u32) {
  let part = row / PART_ROWS;
  let at = row % PART_ROWS * ROW + thread_chunk * 4u;
  let low = chunk_half_scale(chunk, 0u, row % 32u / 8u, largest);
  let high = chunk_half_scale(chunk, 1u, row % 32u / 8u, largest);
  tile[part][at] = halves8(chunk.codes.x, low);
  tile[part][at + 1u] = halves8(chunk.codes.y, low);
  tile[part][at + 2u] = halves8(chunk.codes.z, high);
  tile[part][at + 3u] = halves8(chunk.codes.w, high);
}

fn load_left(fragment: u32) -> Left {
  return subgroupMatrixLoad<Left, row_major>(&x, fragment * LEFT_SIZE, MMA_K / 8u);
}

fn mma(a: Left, b: Right, sum: Sum) -> Sum {
  return subgroupMatrixMultiplyAccumulate(a, b, sum);
}

// Lays two fragments of sums down, side by side, then scales and stores them.
fn store_sums(
  subgroup: u32,
  lane: u32,
  tile_row: u32,
  tile_col: u32,
  first_row: u32,
  first_quad: u32,
  s0: Sum,
  s1: Sum,
) {
  workgroupBarrier();
  subgroupMatrixStore<row_major>(&tile[subgroup], 0u, s0, SUMS_ROW);
  subgroupMatrixStore<row_major>(&tile[subgroup], MMA_N / 4u, s1, SUMS_ROW);
  workgroupBarrier();
  // Four columns a lane.
  for (var i = lane; i < MMA_M * QUADS; i += SUBGROUP_SIZE) {
    let row = first_row + i / QUADS;
    let quad = first_quad + i % QUADS;
    let y_row = tile_row + row;
    let y_col = tile_col + quad * 4u;
    if (y_row < problem.m && y_col < problem.n) {
      let sums = bitcast<vec4<f32>>(tile[subgroup % SUBGROUPS][i / QUADS % MMA_M * SUMS_ROW + i % QUADS]) * tile_x_scales[row % TILE_M];
      let largest = tile_largest[quad % (TILE_N / 4u)];
      let y4 = vec4<f32>(
        undo_half_scale(sums.x, largest & 0xFFu),
        undo_half_scale(sums.y, (largest >> 8u) & 0xFFu),
        undo_half_scale(sums.z, (largest >> 16u) & 0xFFu),
        undo_half_scale(sums.w, largest >> 24u),
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
  let tile_row = workgroup.x * TILE_M;
  let first_row = tile_row + subgroup_m * SUBGROUP_M;
  let first_col = workgroup.y * TILE_N;
  let split = workgroup.z;
  part_of_k = split;

  let steps = (chunks_per_row() + STEP_CHUNKS - 1u) / STEP_CHUNKS;
  let first_step = steps * split / SPLIT_K;
  let end_step = steps * (split + 1u) / SPLIT_K;

  // repeat j < PAIRS
  let part$ja = subgroup_n * SUBGROUPS_M + 2u * $ju * MMA_N / PART_ROWS;
  let part$jb = subgroup_n * SUBGROUPS_M + (2u * $ju + 1u) * MMA_N / PART_ROWS;
  // end repeat
  let row_fragments = steps * STEP_FRAGMENTS;
  let first_fragment = first_row / MMA_M * row_fragments;

  let thread_chunk = thread % STEP_CHUNKS;
  let row = thread / STEP_CHUNKS;
  // repeat l < LOADS
  let largest$l = row_max_byte(min(first_col + row + $lu * LOAD_ROWS, problem.n - 1u));
  var chunk$l = load_w(row + $lu * LOAD_ROWS, first_col, first_step * STEP_CHUNKS + thread_chunk);
  // end repeat
  for (var i = thread; i < TILE_M; i += THREADS) {
    tile_x_scales[i] = x_scales[tile_row + i];
  }
  if (thread < TILE_N / 4u) {
    tile_largest[thread] = row_max_word(first_col / 4u + thread);
  }

  // repeat i < FRAGMENTS_M
  // repeat j < PAIRS
  var s$i$ja: Sum;
  var s$i$jb: Sum;
  // end repeat
  // end repeat
  for (var step = first_step; step < end_step; step++) {
    // repeat l < LOADS
    store_chunk(row + $lu * LOAD_ROWS, thread_chunk, chunk$l, largest$l);
    // end repeat
    workgroupBarrier();

    let next = (step + 1u) * STEP_CHUNKS + thread_chunk;
    // repeat l < LOADS
    chunk$l = load_w(row + $lu * LOAD_ROWS, first_col, next);
    // end repeat

    let fragment = first_fragment + step * STEP_FRAGMENTS;
    // repeat q < STEP_FRAGMENTS
    {
      // repeat i < FRAGMENTS_M
      let a$i = load_left(fragment + $iu * row_fragments + $qu);
      // end repeat
      // repeat j < PAIRS
      let b$ja = subgroupMatrixLoad<Right, col_major>(&tile[part$ja], 2u * $ju * MMA_N % PART_ROWS * ROW + $qu * (MMA_K / 8u), ROW);
      let b$jb = subgroupMatrixLoad<Right, col_major>(&tile[part$jb], (2u * $ju + 1u) * MMA_N % PART_ROWS * ROW + $qu * (MMA_K / 8u), ROW);
      // end repeat
      // repeat i < FRAGMENTS_M
      // repeat j < PAIRS
      s$i$ja = mma(a$i, b$ja, s$i$ja);
      s$i$jb = mma(a$i, b$jb, s$i$jb);
      // end repeat
      // end repeat
    }
    // end repeat
    workgroupBarrier();
  }

  // repeat i < FRAGMENTS_M
  // repeat j < PAIRS
  store_sums(
    subgroup,
    lane,
    tile_row,
    first_col,
    subgroup_m * SUBGROUP_M + $iu * MMA_M,
    subgroup_n * (SUBGROUP_N / 4u) + $ju * QUADS,
    s$i$ja,
    s$i$jb,
  );
  // end repeat
  // end repeat
}
