// y[m, n] = x[m, k] · w[n, k]ᵀ with subgroup matrices for few rows of x: f16 operands, f32 sums, weights read once.
//
// x         f16 fragments (operands/half_fragments.wgsl): vec4<u32>[rows / MMA_M, cols / MMA_K, MMA_M, MMA_K / 8]
// x_scales  f32[rows]: what a row of sums has to be multiplied by
// w_codes   kernel order: vec4<u32>[blocks of 32 rows, chunks of 32 codes, 32]
//
// A workgroup computes TILE_N columns of y for FRAGMENTS_M fragments of rows. Its SUBGROUPS subgroups split k between
// them, a chunk of 32 at a time, so that neighbouring subgroups read neighbouring chunks of the same rows; SPLIT_K
// workgroups may split it further. A lane decodes the chunk of one or two rows of w into its subgroup's part of
// workgroup memory, whose rows are followed by an empty vec4 so that they lie in different banks. Rounds are written out
// in pairs, with the codes of the next pair on their way: handing codes from one variable to the next would wait for
// them. At the end the subgroups' sums meet in the same memory.
// The grid is (x, y, z): tiles of n over x and y together, SPLIT_K parts of k over z.
//
// Shared: SUBGROUPS · max(TILE_N · 80, MMA_M · TILE_N · 4) bytes. Registers: FRAGMENTS_M · FRAGMENTS_N · MMA_M · MMA_N /
// SUBGROUP_SIZE for sums, 12 for codes, 8 · FRAGMENTS_M for x, about 40 besides.
// Features: subgroups, shader-f16, chromium-experimental-subgroup-matrix.
// Error: as gemm_subgroup_matrix.wgsl with f16 elements.
//
// Measured on an H200, mxfp4, n = k = 4096, µs with the conversion of x (about 3.7): m = 16 15.4, 32 18.5, 64 24.6, with
// eight subgroups; sixteen are up to 3 slower. MBS 128 and NVFP4 at m = 16: 17.4 and 17.3. With weights in rows instead of
// blocks of 32 rows it took 20.1 and 31.5 at m = 16 and 64.
// Tried: all rounds written out, for one k, is 1.6 faster at m = 16 and 2 at m = 64, but no text for every k.

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
const CHUNKS = (K + 31u) / 32u;
// Fragments that a row of them has.
const ROW_FRAGMENTS = CHUNKS * CHUNK_FRAGMENTS;
// The workgroups and subgroups that share k take chunks in turn.
const STRIDE = SUBGROUPS * SPLIT_K;
const ROUNDS = (CHUNKS + STRIDE - 1u) / STRIDE;
const PAIRS = (ROUNDS + 1u) / 2u;
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

// Whether chunks in a round may be past the end of k.
const RAGGED = CHUNKS % STRIDE != 0u;

fn inside(chunk: u32) -> u32 {
  if (RAGGED) {
    return min(chunk, CHUNKS - 1u);
  }
  return chunk;
}

// Chunk `chunk` of row `row` of w; past the end of k the last one, which store_chunk makes zeros of. Rows past the edge
// are other ones or zeros, and are not stored.
fn load_chunk(row: u32, chunk: u32) -> Chunk {
  let at = inside(chunk);
  return Chunk(w_codes[chunk_index(row, at)], chunk_scale_bytes(row, at), chunk_macro_byte(row, at));
}

fn store_chunk(subgroup: u32, row: u32, w: Chunk, largest: u32, chunk: u32) {
  var low = half_scale(w.scales & 0xFFu, w.macros, largest);
  var high = low;
  if (BLOCK_SIZE == 16u) {
    high = half_scale(w.scales >> 8u, w.macros, largest);
  }
  if (RAGGED && chunk >= CHUNKS) {
    low = vec2<f16>();
    high = vec2<f16>();
  }
  // Cut here, as compilers do not see through calls that indices are in range.
  let part = subgroup % SUBGROUPS;
  let at = row % TILE_N * ROW;
  parts[part][at] = halves8(w.codes.x, low);
  parts[part][at + 1u] = halves8(w.codes.y, low);
  parts[part][at + 2u] = halves8(w.codes.z, high);
  parts[part][at + 3u] = halves8(w.codes.w, high);
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
  subgroupMatrixStore<row_major>(&parts[subgroup % SUBGROUPS], 0u, s0, TILE_N / 4u);
  subgroupMatrixStore<row_major>(&parts[subgroup % SUBGROUPS], MMA_N / 4u, s1, TILE_N / 4u);
  workgroupBarrier();
  // Four columns a thread.
  for (var e = thread; e < MMA_M * TILE_N / 4u; e += THREADS) {
    var sum = vec4<f32>();
    for (var s = 0u; s < SUBGROUPS; s++) {
      sum += bitcast<vec4<f32>>(parts[s][e]);
    }
    let row = first_row + e / (TILE_N / 4u);
    let col = first_col + e % (TILE_N / 4u) * 4u;
    if (row < problem.m && col < problem.n) {
      sum *= x_scales[row];
      let largest = row_max_word(col / 4u);
      let y4 = vec4<f32>(
        undo_half_scale(sum.x, largest & 0xFFu),
        undo_half_scale(sum.y, (largest >> 8u) & 0xFFu),
        undo_half_scale(sum.z, (largest >> 16u) & 0xFFu),
        undo_half_scale(sum.w, largest >> 24u),
      );
      epilogue4(y4, row, col);
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
  let first_chunk = split * SUBGROUPS + subgroup;

  // Rows of w that the lane decodes: one, or two where subgroups are half as wide as the tile.
  let row0 = first_col + lane;
  let row1 = row0 + SUBGROUP_SIZE;
  let largest0 = row_max_byte(row0);
  let largest1 = row_max_byte(row1);
  // Codes of this round and of the next.
  var even0 = load_chunk(row0, first_chunk);
  var odd0 = load_chunk(row0, first_chunk + STRIDE);
  var even1 = load_chunk(row1, first_chunk);
  var odd1 = load_chunk(row1, first_chunk + STRIDE);

  var s00: Sum;
  var s01: Sum;
  var s10: Sum;
  var s11: Sum;
  var s20: Sum;
  var s21: Sum;
  var s30: Sum;
  var s31: Sum;
  // Fragments of x are asked for before the barriers. Those that FRAGMENTS_M or MMA_K leave out are repeated and not used.
  for (var pair = 0u; pair < PAIRS; pair++) {
    {
      let chunk = first_chunk + 2u * pair * STRIDE;
      let fragment = inside(chunk) * CHUNK_FRAGMENTS;
      let a00 = load_left(fragment);
      let a01 = load_left(fragment + min(1u, CHUNK_FRAGMENTS - 1u));
      let a02 = load_left(fragment + min(2u, CHUNK_FRAGMENTS - 1u));
      let a03 = load_left(fragment + min(3u, CHUNK_FRAGMENTS - 1u));
      let a10 = load_left(fragment + min(1u, FRAGMENTS_M - 1u) * ROW_FRAGMENTS);
      let a11 = load_left(fragment + min(1u, FRAGMENTS_M - 1u) * ROW_FRAGMENTS + min(1u, CHUNK_FRAGMENTS - 1u));
      let a12 = load_left(fragment + min(1u, FRAGMENTS_M - 1u) * ROW_FRAGMENTS + min(2u, CHUNK_FRAGMENTS - 1u));
      let a13 = load_left(fragment + min(1u, FRAGMENTS_M - 1u) * ROW_FRAGMENTS + min(3u, CHUNK_FRAGMENTS - 1u));
      let a20 = load_left(fragment + min(2u, FRAGMENTS_M - 1u) * ROW_FRAGMENTS);
      let a21 = load_left(fragment + min(2u, FRAGMENTS_M - 1u) * ROW_FRAGMENTS + min(1u, CHUNK_FRAGMENTS - 1u));
      let a22 = load_left(fragment + min(2u, FRAGMENTS_M - 1u) * ROW_FRAGMENTS + min(2u, CHUNK_FRAGMENTS - 1u));
      let a23 = load_left(fragment + min(2u, FRAGMENTS_M - 1u) * ROW_FRAGMENTS + min(3u, CHUNK_FRAGMENTS - 1u));
      let a30 = load_left(fragment + min(3u, FRAGMENTS_M - 1u) * ROW_FRAGMENTS);
      let a31 = load_left(fragment + min(3u, FRAGMENTS_M - 1u) * ROW_FRAGMENTS + min(1u, CHUNK_FRAGMENTS - 1u));
      let a32 = load_left(fragment + min(3u, FRAGMENTS_M - 1u) * ROW_FRAGMENTS + min(2u, CHUNK_FRAGMENTS - 1u));
      let a33 = load_left(fragment + min(3u, FRAGMENTS_M - 1u) * ROW_FRAGMENTS + min(3u, CHUNK_FRAGMENTS - 1u));
      workgroupBarrier();
      store_chunk(subgroup, lane, even0, largest0, chunk);
      if (pair + 1u < PAIRS) {
        even0 = load_chunk(row0, chunk + 2u * STRIDE);
      }
      if (LANE_ROWS == 2u) {
        store_chunk(subgroup, SUBGROUP_SIZE + lane, even1, largest1, chunk);
        if (pair + 1u < PAIRS) {
          even1 = load_chunk(row1, chunk + 2u * STRIDE);
        }
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
          s20 = mma(a20, b0, s20);
          s21 = mma(a20, b1, s21);
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
          s20 = mma(a21, b0, s20);
          s21 = mma(a21, b1, s21);
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
          s20 = mma(a22, b0, s20);
          s21 = mma(a22, b1, s21);
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
          s20 = mma(a23, b0, s20);
          s21 = mma(a23, b1, s21);
          s30 = mma(a33, b0, s30);
          s31 = mma(a33, b1, s31);
        }
      }
    }
    if (ROUNDS % 2u == 0u || 2u * pair + 1u < ROUNDS) {
      let chunk = first_chunk + (2u * pair + 1u) * STRIDE;
      let fragment = inside(chunk) * CHUNK_FRAGMENTS;
      let a00 = load_left(fragment);
      let a01 = load_left(fragment + min(1u, CHUNK_FRAGMENTS - 1u));
      let a02 = load_left(fragment + min(2u, CHUNK_FRAGMENTS - 1u));
      let a03 = load_left(fragment + min(3u, CHUNK_FRAGMENTS - 1u));
      let a10 = load_left(fragment + min(1u, FRAGMENTS_M - 1u) * ROW_FRAGMENTS);
      let a11 = load_left(fragment + min(1u, FRAGMENTS_M - 1u) * ROW_FRAGMENTS + min(1u, CHUNK_FRAGMENTS - 1u));
      let a12 = load_left(fragment + min(1u, FRAGMENTS_M - 1u) * ROW_FRAGMENTS + min(2u, CHUNK_FRAGMENTS - 1u));
      let a13 = load_left(fragment + min(1u, FRAGMENTS_M - 1u) * ROW_FRAGMENTS + min(3u, CHUNK_FRAGMENTS - 1u));
      let a20 = load_left(fragment + min(2u, FRAGMENTS_M - 1u) * ROW_FRAGMENTS);
      let a21 = load_left(fragment + min(2u, FRAGMENTS_M - 1u) * ROW_FRAGMENTS + min(1u, CHUNK_FRAGMENTS - 1u));
      let a22 = load_left(fragment + min(2u, FRAGMENTS_M - 1u) * ROW_FRAGMENTS + min(2u, CHUNK_FRAGMENTS - 1u));
      let a23 = load_left(fragment + min(2u, FRAGMENTS_M - 1u) * ROW_FRAGMENTS + min(3u, CHUNK_FRAGMENTS - 1u));
      let a30 = load_left(fragment + min(3u, FRAGMENTS_M - 1u) * ROW_FRAGMENTS);
      let a31 = load_left(fragment + min(3u, FRAGMENTS_M - 1u) * ROW_FRAGMENTS + min(1u, CHUNK_FRAGMENTS - 1u));
      let a32 = load_left(fragment + min(3u, FRAGMENTS_M - 1u) * ROW_FRAGMENTS + min(2u, CHUNK_FRAGMENTS - 1u));
      let a33 = load_left(fragment + min(3u, FRAGMENTS_M - 1u) * ROW_FRAGMENTS + min(3u, CHUNK_FRAGMENTS - 1u));
      workgroupBarrier();
      store_chunk(subgroup, lane, odd0, largest0, chunk);
      if (pair + 1u < PAIRS) {
        odd0 = load_chunk(row0, chunk + 2u * STRIDE);
      }
      if (LANE_ROWS == 2u) {
        store_chunk(subgroup, SUBGROUP_SIZE + lane, odd1, largest1, chunk);
        if (pair + 1u < PAIRS) {
          odd1 = load_chunk(row1, chunk + 2u * STRIDE);
        }
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
          s20 = mma(a20, b0, s20);
          s21 = mma(a20, b1, s21);
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
          s20 = mma(a21, b0, s20);
          s21 = mma(a21, b1, s21);
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
          s20 = mma(a22, b0, s20);
          s21 = mma(a22, b1, s21);
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
          s20 = mma(a23, b0, s20);
          s21 = mma(a23, b1, s21);
          s30 = mma(a33, b0, s30);
          s31 = mma(a33, b1, s31);
        }
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
