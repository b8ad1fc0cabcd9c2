// y[m, n] = x[m, k] · w[n, k]ᵀ with subgroup matrices for few rows of x: f16 operands, f32 sums, weights read once.
//
// x         f16 fragments (operands/half_fragments.wgsl): vec4<u32>[rows / MMA_M, cols / MMA_K, MMA_M, MMA_K / 8]
// x_scales  f32[rows]: what a row of sums has to be multiplied by
// w_codes   kernel order: vec4<u32>[blocks of 32 rows, chunks of 32 codes, 32]
//
// A workgroup computes TILE_N columns of y for FRAGMENTS_M fragments of rows. Its SUBGROUPS subgroups split k between
// them, a chunk of 32 at a time, so that neighbouring subgroups read neighbouring chunks of the same rows; SPLIT_K
// workgroups may split it further. A lane decodes the chunk of one or more rows of w into its subgroup's part of
// workgroup memory, whose rows are followed by an empty vec4 so that they lie in different banks; the next four chunks
// of codes are on their way meanwhile. At the end the subgroups' sums meet in the same memory.
// The grid is (x, y, z): tiles of n over x and y together, SPLIT_K parts of k over z.
//
// Shared: SUBGROUPS · max(TILE_N · 80, MMA_M · TILE_N · 4) bytes. Registers: FRAGMENTS_M · FRAGMENTS_N · MMA_M · MMA_N /
// SUBGROUP_SIZE for sums, 24 for codes, about 40 besides.
// Features: subgroups, shader-f16, chromium-experimental-subgroup-matrix.
// Error: as gemm_subgroup_matrix.wgsl.
//
// Measured on an H200, mxfp4, n = k = 4096, µs with 4 for the conversion of x: m = 16 20.1, m = 64 31.5, sixteen subgroups;
// with eight 27.5 and 37. Tried: the first fragments of x loaded after the barriers 22.8 (m = 16), all of them before 36
// (m = 64); fragments in structs, those of the next round loaded ahead and eight chunks on their way 22.2 and 83; arrays
// that loops index 24 and 100.

@group(0) @binding(1) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> w_codes: array<vec4<u32>>;
@group(0) @binding(7) var<storage, read> x_scales: array<f32>;

alias Left = subgroup_matrix_left<f16, MMA_K, MMA_M>;
alias Right = subgroup_matrix_right<f16, MMA_N, MMA_K>;
alias Sum = subgroup_matrix_result<f32, MMA_N, MMA_M>;

const THREADS = SUBGROUPS * SUBGROUP_SIZE;
const TILE_N = FRAGMENTS_N * MMA_N;
// Rows of w that a lane decodes.
const LANE_ROWS = TILE_N / SUBGROUP_SIZE;
const ROW = 5u;
const PART = max(TILE_N * ROW, MMA_M * TILE_N / 4u);
const CHUNK_FRAGMENTS = 32u / MMA_K;
const LEFT_SIZE = MMA_M * MMA_K / 8u;
// Where the fragments of a chunk begin: two or four; offsets have to exist even where they are not used.
const K0 = 0u;
const K1 = MMA_K / 8u;
const K2 = min(2u, CHUNK_FRAGMENTS - 1u) * (MMA_K / 8u);
const K3 = min(3u, CHUNK_FRAGMENTS - 1u) * (MMA_K / 8u);

var<workgroup> parts: array<array<vec4<u32>, PART>, SUBGROUPS>;

// Chunk of codes on its way from memory to workgroup memory.
struct Chunk {
  codes: vec4<u32>,
  scales: u32,
  macros: u32,
}

// Chunk `chunk` of row `row` of w; past the end of k one of zeros.
fn load_chunk(row: u32, chunk: u32, chunks: u32) -> Chunk {
  let at = min(chunk, chunks - 1u);
  var codes = w_codes[chunk_index(row, at)];
  if (chunk >= chunks) {
    codes = vec4<u32>();
  }
  return Chunk(codes, chunk_scale_bytes(row, at), chunk_macro_byte(row, at));
}

fn store_chunk(subgroup: u32, row: u32, chunk: Chunk, largest: u32) {
  let at = row * ROW;
  let low = half_scale(chunk.scales & 0xFFu, chunk.macros, largest);
  var high = low;
  if (BLOCK_SIZE == 16u) {
    high = half_scale(chunk.scales >> 8u, chunk.macros, largest);
  }
  parts[subgroup][at] = halves8(chunk.codes.x, low);
  parts[subgroup][at + 1u] = halves8(chunk.codes.y, low);
  parts[subgroup][at + 2u] = halves8(chunk.codes.z, high);
  parts[subgroup][at + 3u] = halves8(chunk.codes.w, high);
}

fn load_left(fragment: u32) -> Left {
  return subgroupMatrixLoad<Left, row_major>(&x, fragment * LEFT_SIZE, MMA_K / 8u);
}

fn mma(a: Left, b: Right, sum: Sum) -> Sum {
  return subgroupMatrixMultiplyAccumulate(a, b, sum);
}

// Lays a subgroup's sums of a fragment's rows down, adds those of all subgroups in their order, scales and stores them.
fn store_sums(subgroup: u32, thread: u32, first_row: u32, first_col: u32, s0: Sum, s1: Sum) {
  workgroupBarrier();
  subgroupMatrixStore<row_major>(&parts[subgroup], 0u, s0, TILE_N / 4u);
  subgroupMatrixStore<row_major>(&parts[subgroup], MMA_N / 4u, s1, TILE_N / 4u);
  workgroupBarrier();
  for (var e = thread; e < MMA_M * TILE_N; e += THREADS) {
    var sum = 0.0;
    for (var s = 0u; s < SUBGROUPS; s++) {
      sum += bitcast<f32>(parts[s][e / 4u][e % 4u]);
    }
    let row = first_row + e / TILE_N;
    let col = first_col + e % TILE_N;
    if (row < problem.m && col < problem.n) {
      epilogue(undo_half_scale(sum * x_scales[row], row_max_byte(col)), row, col);
    }
  }
}

@compute @workgroup_size(THREADS)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
  @builtin(subgroup_id) subgroup_id: u32,
  @builtin(subgroup_invocation_id) lane: u32,
) {
  let subgroup = subgroup_id % SUBGROUPS;
  let first_col = (workgroup.y * grid.x + workgroup.x) * TILE_N;
  let split = workgroup.z;
  part_of_k = split;
  let chunks = chunks_per_row();
  // The workgroups and subgroups that share k take chunks in turn.
  const STRIDE = SUBGROUPS * SPLIT_K;
  let rounds = (chunks + STRIDE - 1u) / STRIDE;
  let first_chunk = split * SUBGROUPS + subgroup;
  let row_fragments = chunks * CHUNK_FRAGMENTS;

  // Rows of w that the lane decodes: one, or two where subgroups are half as wide as the tile.
  let row0 = min(first_col + lane, problem.n - 1u);
  let row1 = min(first_col + SUBGROUP_SIZE + lane, problem.n - 1u);
  let largest0 = row_max_byte(row0);
  let largest1 = row_max_byte(row1);
  // The chunks of this round and of the three after it.
  var now0 = load_chunk(row0, first_chunk, chunks);
  var soon0 = load_chunk(row0, first_chunk + STRIDE, chunks);
  var later0 = load_chunk(row0, first_chunk + 2u * STRIDE, chunks);
  var last0 = load_chunk(row0, first_chunk + 3u * STRIDE, chunks);
  var now1 = load_chunk(row1, first_chunk, chunks);

  var s00: Sum;
  var s01: Sum;
  var s10: Sum;
  var s11: Sum;
  var s20: Sum;
  var s21: Sum;
  var s30: Sum;
  var s31: Sum;
  for (var round = 0u; round < rounds; round++) {
    let chunk = first_chunk + round * STRIDE;
    // The first fragments of x, asked for before the barriers; more would take too many registers. Those that FRAGMENTS_M
    // or MMA_K leave out are repeated and not used.
    let fragment = min(chunk, chunks - 1u) * CHUNK_FRAGMENTS;
    let a00 = load_left(fragment);
    let a01 = load_left(fragment + min(1u, CHUNK_FRAGMENTS - 1u));
    let a02 = load_left(fragment + min(2u, CHUNK_FRAGMENTS - 1u));
    let a03 = load_left(fragment + min(3u, CHUNK_FRAGMENTS - 1u));
    let a10 = load_left(fragment + min(1u, FRAGMENTS_M - 1u) * row_fragments);
    let a11 = load_left(fragment + min(1u, FRAGMENTS_M - 1u) * row_fragments + min(1u, CHUNK_FRAGMENTS - 1u));
    let a12 = load_left(fragment + min(1u, FRAGMENTS_M - 1u) * row_fragments + min(2u, CHUNK_FRAGMENTS - 1u));
    let a13 = load_left(fragment + min(1u, FRAGMENTS_M - 1u) * row_fragments + min(3u, CHUNK_FRAGMENTS - 1u));
    workgroupBarrier();
    store_chunk(subgroup, lane, now0, largest0);
    now0 = soon0;
    soon0 = later0;
    later0 = last0;
    last0 = load_chunk(row0, chunk + 4u * STRIDE, chunks);
    if (LANE_ROWS == 2u) {
      store_chunk(subgroup, SUBGROUP_SIZE + lane, now1, largest1);
      now1 = load_chunk(row1, chunk + STRIDE, chunks);
    }
    workgroupBarrier();
    {
      let b0 = subgroupMatrixLoad<Right, col_major>(&parts[subgroup], K0, ROW);
      let b1 = subgroupMatrixLoad<Right, col_major>(&parts[subgroup], MMA_N * ROW + K0, ROW);
      s00 = mma(a00, b0, s00);
      s01 = mma(a00, b1, s01);
      if (FRAGMENTS_M > 1u) {
        s10 = mma(a10, b0, s10);
        s11 = mma(a10, b1, s11);
      }
      if (FRAGMENTS_M > 2u) {
        let a20 = load_left(fragment + 2u * row_fragments);
        s20 = mma(a20, b0, s20);
        s21 = mma(a20, b1, s21);
        let a30 = load_left(fragment + 3u * row_fragments);
        s30 = mma(a30, b0, s30);
        s31 = mma(a30, b1, s31);
      }
    }
    {
      let b0 = subgroupMatrixLoad<Right, col_major>(&parts[subgroup], K1, ROW);
      let b1 = subgroupMatrixLoad<Right, col_major>(&parts[subgroup], MMA_N * ROW + K1, ROW);
      s00 = mma(a01, b0, s00);
      s01 = mma(a01, b1, s01);
      if (FRAGMENTS_M > 1u) {
        s10 = mma(a11, b0, s10);
        s11 = mma(a11, b1, s11);
      }
      if (FRAGMENTS_M > 2u) {
        let a21 = load_left(fragment + 2u * row_fragments + 1u);
        s20 = mma(a21, b0, s20);
        s21 = mma(a21, b1, s21);
        let a31 = load_left(fragment + 3u * row_fragments + 1u);
        s30 = mma(a31, b0, s30);
        s31 = mma(a31, b1, s31);
      }
    }
    if (CHUNK_FRAGMENTS == 4u) {
      let b0 = subgroupMatrixLoad<Right, col_major>(&parts[subgroup], K2, ROW);
      let b1 = subgroupMatrixLoad<Right, col_major>(&parts[subgroup], MMA_N * ROW + K2, ROW);
      s00 = mma(a02, b0, s00);
      s01 = mma(a02, b1, s01);
      if (FRAGMENTS_M > 1u) {
        s10 = mma(a12, b0, s10);
        s11 = mma(a12, b1, s11);
      }
      if (FRAGMENTS_M > 2u) {
        let a22 = load_left(fragment + 2u * row_fragments + 2u);
        s20 = mma(a22, b0, s20);
        s21 = mma(a22, b1, s21);
        let a32 = load_left(fragment + 3u * row_fragments + 2u);
        s30 = mma(a32, b0, s30);
        s31 = mma(a32, b1, s31);
      }
    }
    if (CHUNK_FRAGMENTS == 4u) {
      let b0 = subgroupMatrixLoad<Right, col_major>(&parts[subgroup], K3, ROW);
      let b1 = subgroupMatrixLoad<Right, col_major>(&parts[subgroup], MMA_N * ROW + K3, ROW);
      s00 = mma(a03, b0, s00);
      s01 = mma(a03, b1, s01);
      if (FRAGMENTS_M > 1u) {
        s10 = mma(a13, b0, s10);
        s11 = mma(a13, b1, s11);
      }
      if (FRAGMENTS_M > 2u) {
        let a23 = load_left(fragment + 2u * row_fragments + 3u);
        s20 = mma(a23, b0, s20);
        s21 = mma(a23, b1, s21);
        let a33 = load_left(fragment + 3u * row_fragments + 3u);
        s30 = mma(a33, b0, s30);
        s31 = mma(a33, b1, s31);
      }
    }
  }

  store_sums(subgroup, thread, 0u, first_col, s00, s01);
  if (FRAGMENTS_M > 1u) {
    store_sums(subgroup, thread, MMA_M, first_col, s10, s11);
  }
  if (FRAGMENTS_M > 2u) {
    store_sums(subgroup, thread, 2u * MMA_M, first_col, s20, s21);
    store_sums(subgroup, thread, 3u * MMA_M, first_col, s30, s31);
  }
}
