// y[m, n] = x[m, k] · w[n, k]ᵀ with subgroup matrices: f16 operands, f32 sums, x straight from memory. Beside
// gemm_subgroup_matrix.wgsl it takes less workgroup memory: the better one where several workgroups share a core.
//
// x         f16 fragments (operands/half_fragments.wgsl): vec4<u32>[rows / MMA_M, cols / MMA_K, MMA_M, MMA_K / 8]
// x_scales  f32[rows]: what a row of sums has to be multiplied by
// w_codes   kernel order: vec4<u32>[blocks of 32 rows, chunks of 32 codes, 32]
//
// A workgroup of SUBGROUPS_M × SUBGROUPS_N subgroups computes TILE_M × TILE_N of y, a subgroup FRAGMENTS_M ×
// FRAGMENTS_N fragments of it. In steps of TILE_K along k the workgroup decodes and scales the weights of its columns
// into workgroup memory, once; fragments of x are loaded straight from memory, where they lie in one piece. The codes of
// the next step are on their way while the matrices multiply. Rows of w in workgroup memory are followed by an empty
// vec4, so that the rows of a fragment lie in different banks.
// At the end each subgroup lays its sums down in its part of the same memory, two fragments at a time, to scale and store
// them row by row.
// FRAGMENTS_M × FRAGMENTS_N are 2 × 2, 2 × 4 or 4 × 4; all is written out for 4 × 4 and four fragments along k: fragments
// need names, as drivers keep arrays of matrices that loops index in local memory, and offsets into workgroup memory have
// to be constants, as others are checked and selected at run time.
// The grid is (tiles of m, tiles of n, SPLIT_K parts of k).
//
// Shared: max(TILE_N · (TILE_K + 8) · 2, SUBGROUPS · MMA_M · (MMA_N / 2 + 1) · 16) bytes. Registers: FRAGMENTS_M ·
// FRAGMENTS_N · MMA_M · MMA_N / SUBGROUP_SIZE for sums, about 70 besides.
// Features: subgroups, shader-f16, chromium-experimental-subgroup-matrix.
// Error: operands as stated where they are made, sums in f32 in an order that the device chooses.
//
// Measured on an H200, mxfp4, n = k = 4096, µs with 17 and 6 for the conversion of x, m = 2048 and 512: 128 × 128 with
// eight subgroups of 32 × 64 248 and 86, with four of 64 × 64 282 and 102; 128 × 64 318 and 118, k in two parts 84.
// gemm_subgroup_matrix.wgsl takes 267 and 70.
// Tried at m = 2048: sums in an array that loops index 2055 (and wrong in places); offsets that are not constant 468; two
// tiles in turn and one barrier a step 377; the next x fragments loaded before the barrier 310; whole rows of fragments
// laid down at the end, 8 KB more memory, 290; one text for this and gemm_subgroup_matrix.wgsl 350.

@group(0) @binding(1) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> w_codes: array<vec4<u32>>;
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
// Chunks of w that a thread decodes a step.
const LOADS = TILE_N * STEP_CHUNKS / THREADS;
// vec4s of a row of w in workgroup memory.
const ROW = TILE_K / 8u + 1u;
// The tile of w is cut into as many parts as there are subgroups, so that indices inside a part are constant.
const PART_ROWS = TILE_N / SUBGROUPS;
// vec4s of a row of sums that is laid down.
const SUMS_ROW = 2u * MMA_N / 4u + 1u;
const PART = max(PART_ROWS * ROW, MMA_M * SUMS_ROW);
const LEFT_SIZE = MMA_M * MMA_K / 8u;
// Fragments of a step along k.
const STEP_FRAGMENTS = 4u;
const TILE_K = STEP_FRAGMENTS * MMA_K;
// Where a fragment begins inside a part: four along n, four along k.
const N0 = 0u;
const N1 = MMA_N % PART_ROWS * ROW;
const N2 = min(2u, FRAGMENTS_N - 1u) * MMA_N % PART_ROWS * ROW;
const N3 = min(3u, FRAGMENTS_N - 1u) * MMA_N % PART_ROWS * ROW;
const K0 = 0u;
const K1 = MMA_K / 8u;
const K2 = 2u * MMA_K / 8u;
const K3 = 3u * MMA_K / 8u;

// A thread decodes the same chunk of every step, of rows LOAD_ROWS apart.
const LOAD_ROWS = THREADS / STEP_CHUNKS;

var<workgroup> tile: array<array<vec4<u32>, PART>, SUBGROUPS>;

// Chunk of codes on its way from memory to the tile.
struct Chunk {
  codes: vec4<u32>,
  scales: u32,
  macros: u32,
}

// Chunk `chunk` of row `row` of the tile, whose first row is `first_col`. Past the edges other weights are taken: of
// rows that are not stored, and of columns where x is zero.
fn load_chunk(row: u32, first_col: u32, chunk: u32) -> Chunk {
  let chunks = chunks_per_row();
  let w_row = min(first_col + row, problem.n - 1u);
  let w_chunk = min(chunk, chunks - 1u);
  return Chunk(
    w_codes[chunk_index(w_row, w_chunk)],
    chunk_scale_bytes(w_row, w_chunk),
    chunk_macro_byte(w_row, w_chunk),
  );
}

fn store_chunk(row: u32, thread_chunk: u32, chunk: Chunk, largest: u32) {
  let part = row / PART_ROWS;
  let at = row % PART_ROWS * ROW + thread_chunk * 4u;
  let low = half_scale(chunk.scales & 0xFFu, chunk.macros, largest);
  var high = low;
  if (BLOCK_SIZE == 16u) {
    high = half_scale(chunk.scales >> 8u, chunk.macros, largest);
  }
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
fn store_sums(subgroup: u32, lane: u32, first_row: u32, first_col: u32, s0: Sum, s1: Sum) {
  workgroupBarrier();
  subgroupMatrixStore<row_major>(&tile[subgroup], 0u, s0, SUMS_ROW);
  subgroupMatrixStore<row_major>(&tile[subgroup], MMA_N / 4u, s1, SUMS_ROW);
  workgroupBarrier();
  for (var block = 0u; block < 2u * MMA_N / SUBGROUP_SIZE; block++) {
    let c = block * SUBGROUP_SIZE + lane;
    let col = first_col + c;
    if (col < problem.n) {
      let largest = row_max_byte(col);
      // Four rows at a time, so that their loads do not wait for each other's stores.
      for (var r = 0u; r < MMA_M; r += 4u) {
        let row = first_row + r;
        let last = problem.m - 1u;
        let x_scale = vec4<f32>(
          x_scales[min(row, last)],
          x_scales[min(row + 1u, last)],
          x_scales[min(row + 2u, last)],
          x_scales[min(row + 3u, last)],
        );
        let at = r * SUMS_ROW + c / 4u;
        let v0 = undo_half_scale(bitcast<f32>(tile[subgroup][at][c % 4u]) * x_scale.x, largest);
        let v1 = undo_half_scale(bitcast<f32>(tile[subgroup][at + SUMS_ROW][c % 4u]) * x_scale.y, largest);
        let v2 = undo_half_scale(bitcast<f32>(tile[subgroup][at + 2u * SUMS_ROW][c % 4u]) * x_scale.z, largest);
        let v3 = undo_half_scale(bitcast<f32>(tile[subgroup][at + 3u * SUMS_ROW][c % 4u]) * x_scale.w, largest);
        if (row < problem.m) {
          epilogue(v0, row, col);
        }
        if (row + 1u < problem.m) {
          epilogue(v1, row + 1u, col);
        }
        if (row + 2u < problem.m) {
          epilogue(v2, row + 2u, col);
        }
        if (row + 3u < problem.m) {
          epilogue(v3, row + 3u, col);
        }
      }
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
  let first_row = workgroup.x * TILE_M + subgroup_m * SUBGROUP_M;
  let first_col = workgroup.y * TILE_N;
  let split = workgroup.z;
  part_of_k = split;

  let steps = (chunks_per_row() + STEP_CHUNKS - 1u) / STEP_CHUNKS;
  let first_step = steps * split / SPLIT_K;
  let end_step = steps * (split + 1u) / SPLIT_K;

  let part0 = subgroup_n * SUBGROUPS_M;
  let part1 = part0 + MMA_N / PART_ROWS;
  let part2 = part0 + min(2u, FRAGMENTS_N - 1u) * MMA_N / PART_ROWS;
  let part3 = part0 + min(3u, FRAGMENTS_N - 1u) * MMA_N / PART_ROWS;
  let row_fragments = steps * STEP_FRAGMENTS;
  let first_fragment = first_row / MMA_M * row_fragments;

  let thread_chunk = thread % STEP_CHUNKS;
  let row = thread / STEP_CHUNKS;
  let last_row = problem.n - 1u;
  let largest0 = row_max_byte(min(first_col + row, last_row));
  let largest1 = row_max_byte(min(first_col + row + LOAD_ROWS, last_row));
  let largest2 = row_max_byte(min(first_col + row + 2u * LOAD_ROWS, last_row));
  let largest3 = row_max_byte(min(first_col + row + 3u * LOAD_ROWS, last_row));
  var chunk0 = load_chunk(row, first_col, first_step * STEP_CHUNKS + thread_chunk);
  var chunk1 = load_chunk(row + LOAD_ROWS, first_col, first_step * STEP_CHUNKS + thread_chunk);
  var chunk2 = load_chunk(row + 2u * LOAD_ROWS, first_col, first_step * STEP_CHUNKS + thread_chunk);
  var chunk3 = load_chunk(row + 3u * LOAD_ROWS, first_col, first_step * STEP_CHUNKS + thread_chunk);

  var s00: Sum;
  var s01: Sum;
  var s02: Sum;
  var s03: Sum;
  var s10: Sum;
  var s11: Sum;
  var s12: Sum;
  var s13: Sum;
  var s20: Sum;
  var s21: Sum;
  var s22: Sum;
  var s23: Sum;
  var s30: Sum;
  var s31: Sum;
  var s32: Sum;
  var s33: Sum;
  for (var step = first_step; step < end_step; step++) {
    store_chunk(row, thread_chunk, chunk0, largest0);
    if (LOADS > 1u) {
      store_chunk(row + LOAD_ROWS, thread_chunk, chunk1, largest1);
    }
    if (LOADS > 2u) {
      store_chunk(row + 2u * LOAD_ROWS, thread_chunk, chunk2, largest2);
      store_chunk(row + 3u * LOAD_ROWS, thread_chunk, chunk3, largest3);
    }
    workgroupBarrier();

    let next = (step + 1u) * STEP_CHUNKS + thread_chunk;
    chunk0 = load_chunk(row, first_col, next);
    if (LOADS > 1u) {
      chunk1 = load_chunk(row + LOAD_ROWS, first_col, next);
    }
    if (LOADS > 2u) {
      chunk2 = load_chunk(row + 2u * LOAD_ROWS, first_col, next);
      chunk3 = load_chunk(row + 3u * LOAD_ROWS, first_col, next);
    }

    let fragment = first_fragment + step * STEP_FRAGMENTS;
    {
      let a0 = load_left(fragment);
      let a1 = load_left(fragment + row_fragments);
      let a2 = load_left(fragment + min(2u, FRAGMENTS_M - 1u) * row_fragments);
      let a3 = load_left(fragment + min(3u, FRAGMENTS_M - 1u) * row_fragments);
      let b0 = subgroupMatrixLoad<Right, col_major>(&tile[part0], N0 + K0, ROW);
      let b1 = subgroupMatrixLoad<Right, col_major>(&tile[part1], N1 + K0, ROW);
      let b2 = subgroupMatrixLoad<Right, col_major>(&tile[part2], N2 + K0, ROW);
      let b3 = subgroupMatrixLoad<Right, col_major>(&tile[part3], N3 + K0, ROW);
      s00 = mma(a0, b0, s00);
      s01 = mma(a0, b1, s01);
      s11 = mma(a1, b1, s11);
      s10 = mma(a1, b0, s10);
      if (FRAGMENTS_N == 4u) {
        s12 = mma(a1, b2, s12);
        s13 = mma(a1, b3, s13);
        s03 = mma(a0, b3, s03);
        s02 = mma(a0, b2, s02);
        if (FRAGMENTS_M == 4u) {
          s22 = mma(a2, b2, s22);
          s23 = mma(a2, b3, s23);
          s21 = mma(a2, b1, s21);
          s20 = mma(a2, b0, s20);
          s30 = mma(a3, b0, s30);
          s31 = mma(a3, b1, s31);
          s32 = mma(a3, b2, s32);
          s33 = mma(a3, b3, s33);
        }
      }
    }
    {
      let a0 = load_left(fragment + 1u);
      let a1 = load_left(fragment + row_fragments + 1u);
      let a2 = load_left(fragment + min(2u, FRAGMENTS_M - 1u) * row_fragments + 1u);
      let a3 = load_left(fragment + min(3u, FRAGMENTS_M - 1u) * row_fragments + 1u);
      let b0 = subgroupMatrixLoad<Right, col_major>(&tile[part0], N0 + K1, ROW);
      let b1 = subgroupMatrixLoad<Right, col_major>(&tile[part1], N1 + K1, ROW);
      let b2 = subgroupMatrixLoad<Right, col_major>(&tile[part2], N2 + K1, ROW);
      let b3 = subgroupMatrixLoad<Right, col_major>(&tile[part3], N3 + K1, ROW);
      s00 = mma(a0, b0, s00);
      s01 = mma(a0, b1, s01);
      s11 = mma(a1, b1, s11);
      s10 = mma(a1, b0, s10);
      if (FRAGMENTS_N == 4u) {
        s12 = mma(a1, b2, s12);
        s13 = mma(a1, b3, s13);
        s03 = mma(a0, b3, s03);
        s02 = mma(a0, b2, s02);
        if (FRAGMENTS_M == 4u) {
          s22 = mma(a2, b2, s22);
          s23 = mma(a2, b3, s23);
          s21 = mma(a2, b1, s21);
          s20 = mma(a2, b0, s20);
          s30 = mma(a3, b0, s30);
          s31 = mma(a3, b1, s31);
          s32 = mma(a3, b2, s32);
          s33 = mma(a3, b3, s33);
        }
      }
    }
    {
      let a0 = load_left(fragment + 2u);
      let a1 = load_left(fragment + row_fragments + 2u);
      let a2 = load_left(fragment + min(2u, FRAGMENTS_M - 1u) * row_fragments + 2u);
      let a3 = load_left(fragment + min(3u, FRAGMENTS_M - 1u) * row_fragments + 2u);
      let b0 = subgroupMatrixLoad<Right, col_major>(&tile[part0], N0 + K2, ROW);
      let b1 = subgroupMatrixLoad<Right, col_major>(&tile[part1], N1 + K2, ROW);
      let b2 = subgroupMatrixLoad<Right, col_major>(&tile[part2], N2 + K2, ROW);
      let b3 = subgroupMatrixLoad<Right, col_major>(&tile[part3], N3 + K2, ROW);
      s00 = mma(a0, b0, s00);
      s01 = mma(a0, b1, s01);
      s11 = mma(a1, b1, s11);
      s10 = mma(a1, b0, s10);
      if (FRAGMENTS_N == 4u) {
        s12 = mma(a1, b2, s12);
        s13 = mma(a1, b3, s13);
        s03 = mma(a0, b3, s03);
        s02 = mma(a0, b2, s02);
        if (FRAGMENTS_M == 4u) {
          s22 = mma(a2, b2, s22);
          s23 = mma(a2, b3, s23);
          s21 = mma(a2, b1, s21);
          s20 = mma(a2, b0, s20);
          s30 = mma(a3, b0, s30);
          s31 = mma(a3, b1, s31);
          s32 = mma(a3, b2, s32);
          s33 = mma(a3, b3, s33);
        }
      }
    }
    {
      let a0 = load_left(fragment + 3u);
      let a1 = load_left(fragment + row_fragments + 3u);
      let a2 = load_left(fragment + min(2u, FRAGMENTS_M - 1u) * row_fragments + 3u);
      let a3 = load_left(fragment + min(3u, FRAGMENTS_M - 1u) * row_fragments + 3u);
      let b0 = subgroupMatrixLoad<Right, col_major>(&tile[part0], N0 + K3, ROW);
      let b1 = subgroupMatrixLoad<Right, col_major>(&tile[part1], N1 + K3, ROW);
      let b2 = subgroupMatrixLoad<Right, col_major>(&tile[part2], N2 + K3, ROW);
      let b3 = subgroupMatrixLoad<Right, col_major>(&tile[part3], N3 + K3, ROW);
      s00 = mma(a0, b0, s00);
      s01 = mma(a0, b1, s01);
      s11 = mma(a1, b1, s11);
      s10 = mma(a1, b0, s10);
      if (FRAGMENTS_N == 4u) {
        s12 = mma(a1, b2, s12);
        s13 = mma(a1, b3, s13);
        s03 = mma(a0, b3, s03);
        s02 = mma(a0, b2, s02);
        if (FRAGMENTS_M == 4u) {
          s22 = mma(a2, b2, s22);
          s23 = mma(a2, b3, s23);
          s21 = mma(a2, b1, s21);
          s20 = mma(a2, b0, s20);
          s30 = mma(a3, b0, s30);
          s31 = mma(a3, b1, s31);
          s32 = mma(a3, b2, s32);
          s33 = mma(a3, b3, s33);
        }
      }
    }
    workgroupBarrier();
  }

  let y_row = first_row;
  let y_col = first_col + subgroup_n * SUBGROUP_N;
  store_sums(subgroup, lane, y_row, y_col, s00, s01);
  if (FRAGMENTS_N == 4u) {
    store_sums(subgroup, lane, y_row, y_col + 2u * MMA_N, s02, s03);
  }
  store_sums(subgroup, lane, y_row + MMA_M, y_col, s10, s11);
  if (FRAGMENTS_N == 4u) {
    store_sums(subgroup, lane, y_row + MMA_M, y_col + 2u * MMA_N, s12, s13);
  }
  if (FRAGMENTS_M == 4u) {
    store_sums(subgroup, lane, y_row + 2u * MMA_M, y_col, s20, s21);
    if (FRAGMENTS_N == 4u) {
      store_sums(subgroup, lane, y_row + 2u * MMA_M, y_col + 2u * MMA_N, s22, s23);
    }
    store_sums(subgroup, lane, y_row + 3u * MMA_M, y_col, s30, s31);
    if (FRAGMENTS_N == 4u) {
      store_sums(subgroup, lane, y_row + 3u * MMA_M, y_col + 2u * MMA_N, s32, s33);
    }
  }
}
