// y[m, n] = x[m, k] · w[n, k]ᵀ with subgroup matrices: int8 operands, exact i32 sums of up to CHUNK_K products.
//
// x             int8 (operands/int8_chunks.wgsl): vec4<u32>[m, cols / 16], cols being k filled up to whole tiles
// x_scales      f32[parts of CHUNK_K, m]
// w_codes       kernel order: vec4<u32>[blocks of 32 rows, chunks of 32 codes, 32]
// w_scales      multipliers of blocks (int8_weights.wgsl): u16[blocks of 32 rows, blocks along k, 32]
// w_references  f32[parts of CHUNK_K, n]
//
// y = Σ over parts of (Σ x · w as integers) · x_scale · w_reference.
//
// A workgroup of SUBGROUPS_M × SUBGROUPS_N subgroups computes TILE_M × TILE_N of y, a subgroup FRAGMENTS_M ×
// FRAGMENTS_N fragments of it. In steps of TILE_K along k the workgroup copies x to workgroup memory and decodes the
// weights of its columns next to it, once; what the next step needs is on its way while the matrices multiply. Rows in
// workgroup memory are followed by sixteen empty bytes, so that the rows of a fragment lie in different banks.
// After a part each subgroup lays a row of fragments down in its part of the same memory to scale it row by row; where k
// has several parts, running sums are in memory (int8_sums_parts.wgsl), as registers are full.
// Fragments have names and offsets are constants for the reasons in gemm_subgroup_matrix.wgsl. FRAGMENTS_M × FRAGMENTS_N
// are 2 × 2, 2 × 4 or 4 × 4. The grid is (tiles of m, tiles of n, SPLIT_K parts of k).
//
// Weights as int8 are not exact, see int8_weights.wgsl; sums are, as 127 · 127 · 131072 < 2^31.
//
// Shared: about (TILE_M + TILE_N) · (TILE_K + 16) bytes. Registers: FRAGMENTS_M · FRAGMENTS_N · MMA_M · MMA_N /
// SUBGROUP_SIZE for sums, about 90 besides. Features: subgroups, chromium-experimental-subgroup-matrix.
//
// Measured on an H200, mxfp4, n = k = 4096, µs with the conversion of x (5 and 13), m = 512 and 2048, a scale a row: 128 ×
// 128 with four subgroups 85 and 238, with eight 78 and 308; 64 × 128 102 and 398; 64 × 64 95 and 343. With a scale each
// 1024 values 203 and 497, with eight subgroups 139 and 537: running sums in memory cost more than the products.

@group(0) @binding(1) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> w_codes: array<vec4<u32>>;
@group(0) @binding(7) var<storage, read> x_scales: array<f32>;
@group(0) @binding(9) var<storage, read> w_references: array<f32>;

alias Left = subgroup_matrix_left<i8, MMA_K, MMA_M>;
alias Right = subgroup_matrix_right<i8, MMA_N, MMA_K>;
alias Sum = subgroup_matrix_result<i32, MMA_N, MMA_M>;

const SUBGROUPS = SUBGROUPS_M * SUBGROUPS_N;
const THREADS = SUBGROUPS * SUBGROUP_SIZE;
const SUBGROUP_M = FRAGMENTS_M * MMA_M;
const SUBGROUP_N = FRAGMENTS_N * MMA_N;
const TILE_M = SUBGROUPS_M * SUBGROUP_M;
const TILE_N = SUBGROUPS_N * SUBGROUP_N;
// Fragments of a step along k.
const STEP_FRAGMENTS = select(4u, 2u, MMA_K >= 32u);
const TILE_K = STEP_FRAGMENTS * MMA_K;
const STEP_CHUNKS = TILE_K / 32u;
// Vectors of sixteen values along k of a step.
const STEP_VECTORS = TILE_K / 16u;
// Vectors of x that a thread copies a step, and chunks of w that it decodes.
const X_LOADS = TILE_M * STEP_VECTORS / THREADS;
const W_LOADS = TILE_N * STEP_CHUNKS / THREADS;
// Of rows this far apart, at the same place along k.
const X_LOAD_ROWS = THREADS / STEP_VECTORS;
const W_LOAD_ROWS = THREADS / STEP_CHUNKS;

// Workgroup memory is made of words of WORD bytes (int8_tile_*.wgsl), in as many parts as there are subgroups, so that
// indices inside a part are constant: rows of x, then rows of w.
const VECTOR = 16u / WORD;
const ROW = (TILE_K + 16u) / WORD;
const X_PART_ROWS = TILE_M / SUBGROUPS;
const W_PART_ROWS = TILE_N / SUBGROUPS;
const W_BASE = X_PART_ROWS * ROW;
// Words of a row of sums that is laid down, and of one fragment in it.
const SUMS_ROW = (SUBGROUP_N * 4u + 16u) / WORD;
const SUMS = MMA_N * 4u / WORD;
const PART = max(W_BASE + W_PART_ROWS * ROW, MMA_M * SUMS_ROW);
// Where a fragment begins inside a part: four along m, four along n, four along k.
const M0 = 0u;
const M1 = MMA_M % X_PART_ROWS * ROW;
const M2 = 2u * MMA_M % X_PART_ROWS * ROW;
const M3 = 3u * MMA_M % X_PART_ROWS * ROW;
const N0 = W_BASE;
const N1 = W_BASE + MMA_N % W_PART_ROWS * ROW;
const N2 = W_BASE + 2u * MMA_N % W_PART_ROWS * ROW;
const N3 = W_BASE + 3u * MMA_N % W_PART_ROWS * ROW;
// Where STEP_FRAGMENTS leaves fragments out, their offsets are of ones that exist.
const K0 = 0u;
const K1 = MMA_K / WORD;
const K2 = 2u % STEP_FRAGMENTS * MMA_K / WORD;
const K3 = 3u % STEP_FRAGMENTS * MMA_K / WORD;

// Chunk of codes on its way from memory to the tile, with the multipliers of its blocks.
struct Chunk {
  codes: vec4<u32>,
  multipliers: u32,
}

fn steps_of_k() -> u32 {
  return (problem.k + TILE_K - 1u) / TILE_K;
}

// Vector `vector` of row `row` of x. Past the last row others are taken, whose sums are not stored.
fn load_x(row: u32, vector: u32) -> vec4<u32> {
  let vectors = steps_of_k() * STEP_VECTORS;
  return x[min(row, problem.m - 1u) * vectors + min(vector, vectors - 1u)];
}

fn store_x(row: u32, vector: u32, values: vec4<u32>) {
  tile_store16(row / X_PART_ROWS, row % X_PART_ROWS * ROW + vector * VECTOR, values);
}

fn multiplier_of(row: u32, block: u32) -> u32 {
  let blocks = chunks_per_row() * (32u / BLOCK_SIZE);
  return (w_scales[(row / 32u * blocks + block) * 16u + row % 32u / 2u] >> (row % 2u * 16u)) & 0xFFFFu;
}

// Chunk `chunk` of row `row` of w. Past the edges other weights are taken: of rows that are not stored, and of columns
// where x is zero.
fn load_w(row: u32, chunk: u32) -> Chunk {
  let chunks = chunks_per_row();
  let w_row = min(row, problem.n - 1u);
  let w_chunk = min(chunk, chunks - 1u);
  var multipliers = 0u;
  if (BLOCK_SIZE == 16u) {
    multipliers = multiplier_of(w_row, 2u * w_chunk) | (multiplier_of(w_row, 2u * w_chunk + 1u) << 16u);
  } else {
    multipliers = multiplier_of(w_row, w_chunk);
  }
  return Chunk(w_codes[chunk_index(w_row, w_chunk)], multipliers);
}

fn store_w(row: u32, thread_chunk: u32, chunk: Chunk) {
  let part = row / W_PART_ROWS;
  let at = W_BASE + row % W_PART_ROWS * ROW + thread_chunk * 2u * VECTOR;
  let low = chunk.multipliers & 0xFFFFu;
  var high = low;
  if (BLOCK_SIZE == 16u) {
    high = chunk.multipliers >> 16u;
  }
  tile_store16(part, at, vec4<u32>(scaled8(chunk.codes.x, low), scaled8(chunk.codes.y, low)));
  tile_store16(part, at + VECTOR, vec4<u32>(scaled8(chunk.codes.z, high), scaled8(chunk.codes.w, high)));
}

fn mma(a: Left, b: Right, sum: Sum) -> Sum {
  return subgroupMatrixMultiplyAccumulate(a, b, sum);
}

// A part of k that is being finished.
struct Finished {
  part: u32,
  first: bool,
  last: bool,
}

// Lays a row of fragments down, then scales it and hands it on. What FRAGMENTS_N leaves out is laid down nowhere, at an
// offset that exists.
fn store_sums(
  finished: Finished,
  subgroup: u32,
  lane: u32,
  first_row: u32,
  first_col: u32,
  s0: Sum,
  s1: Sum,
  s2: Sum,
  s3: Sum,
) {
  subgroupMatrixStore<row_major>(&tile[subgroup], 0u, s0, SUMS_ROW);
  subgroupMatrixStore<row_major>(&tile[subgroup], SUMS, s1, SUMS_ROW);
  if (FRAGMENTS_N == 4u) {
    subgroupMatrixStore<row_major>(&tile[subgroup], min(2u, FRAGMENTS_N - 1u) * SUMS, s2, SUMS_ROW);
    subgroupMatrixStore<row_major>(&tile[subgroup], min(3u, FRAGMENTS_N - 1u) * SUMS, s3, SUMS_ROW);
  }
  workgroupBarrier();
  for (var block = 0u; block < SUBGROUP_N / SUBGROUP_SIZE; block++) {
    let c = block * SUBGROUP_SIZE + lane;
    let col = first_col + c;
    let reference = w_references[finished.part * problem.n + min(col, problem.n - 1u)];
    for (var r = 0u; r < MMA_M; r++) {
      let row = first_row + r;
      if (row < problem.m && col < problem.n) {
        let sum = f32(tile_sum(subgroup, r, c));
        let scale = x_scales[finished.part * problem.m + row];
        // In this order no product leaves the range of f32 unless the sum does.
        let value = select((sum * reference) * scale, (sum * scale) * reference, scale < 1.0);
        add_part(value, row, col, finished.first, finished.last);
      }
    }
  }
  workgroupBarrier();
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
  let tile_col = workgroup.y * TILE_N;
  let split = workgroup.z;
  part_of_k = split;

  let steps = steps_of_k();
  let first_step = steps * split / SPLIT_K;
  let end_step = steps * (split + 1u) / SPLIT_K;

  let left0 = subgroup_m * SUBGROUPS_N;
  let left1 = left0 + MMA_M / X_PART_ROWS;
  let left2 = left0 + 2u * MMA_M / X_PART_ROWS;
  let left3 = left0 + 3u * MMA_M / X_PART_ROWS;
  let right0 = subgroup_n * SUBGROUPS_M;
  let right1 = right0 + MMA_N / W_PART_ROWS;
  let right2 = right0 + 2u * MMA_N / W_PART_ROWS;
  let right3 = right0 + 3u * MMA_N / W_PART_ROWS;

  let x_vector = thread % STEP_VECTORS;
  let x_row = thread / STEP_VECTORS;
  let w_chunk = thread % STEP_CHUNKS;
  let w_row = thread / STEP_CHUNKS;
  var x0 = load_x(tile_row + x_row, first_step * STEP_VECTORS + x_vector);
  var x1 = load_x(tile_row + x_row + X_LOAD_ROWS, first_step * STEP_VECTORS + x_vector);
  var x2 = load_x(tile_row + x_row + 2u * X_LOAD_ROWS, first_step * STEP_VECTORS + x_vector);
  var x3 = load_x(tile_row + x_row + 3u * X_LOAD_ROWS, first_step * STEP_VECTORS + x_vector);
  var w0 = load_w(tile_col + w_row, first_step * STEP_CHUNKS + w_chunk);
  var w1 = load_w(tile_col + w_row + W_LOAD_ROWS, first_step * STEP_CHUNKS + w_chunk);
  var w2 = load_w(tile_col + w_row + 2u * W_LOAD_ROWS, first_step * STEP_CHUNKS + w_chunk);
  var w3 = load_w(tile_col + w_row + 3u * W_LOAD_ROWS, first_step * STEP_CHUNKS + w_chunk);

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
  // Parts of k without steps are finished too: they are zero.
  let first_part = part_of_step(first_step);
  let last_part = part_of_step(max(end_step, first_step + 1u) - 1u);
  for (var part = first_part; part <= last_part; part++) {
    s00 = Sum();
    s01 = Sum();
    s02 = Sum();
    s03 = Sum();
    s10 = Sum();
    s11 = Sum();
    s12 = Sum();
    s13 = Sum();
    s20 = Sum();
    s21 = Sum();
    s22 = Sum();
    s23 = Sum();
    s30 = Sum();
    s31 = Sum();
    s32 = Sum();
    s33 = Sum();
    let begin = max(first_step, first_step_of(part));
    let end = min(end_step, first_step_of(part + 1u));
    for (var step = begin; step < end; step++) {
      store_x(x_row, x_vector, x0);
      if (X_LOADS > 1u) {
        store_x(x_row + X_LOAD_ROWS, x_vector, x1);
      }
      if (X_LOADS > 2u) {
        store_x(x_row + 2u * X_LOAD_ROWS, x_vector, x2);
        store_x(x_row + 3u * X_LOAD_ROWS, x_vector, x3);
      }
      store_w(w_row, w_chunk, w0);
      if (W_LOADS > 1u) {
        store_w(w_row + W_LOAD_ROWS, w_chunk, w1);
      }
      if (W_LOADS > 2u) {
        store_w(w_row + 2u * W_LOAD_ROWS, w_chunk, w2);
        store_w(w_row + 3u * W_LOAD_ROWS, w_chunk, w3);
      }
      workgroupBarrier();

      let next = step + 1u;
      x0 = load_x(tile_row + x_row, next * STEP_VECTORS + x_vector);
      if (X_LOADS > 1u) {
        x1 = load_x(tile_row + x_row + X_LOAD_ROWS, next * STEP_VECTORS + x_vector);
      }
      if (X_LOADS > 2u) {
        x2 = load_x(tile_row + x_row + 2u * X_LOAD_ROWS, next * STEP_VECTORS + x_vector);
        x3 = load_x(tile_row + x_row + 3u * X_LOAD_ROWS, next * STEP_VECTORS + x_vector);
      }
      w0 = load_w(tile_col + w_row, next * STEP_CHUNKS + w_chunk);
      if (W_LOADS > 1u) {
        w1 = load_w(tile_col + w_row + W_LOAD_ROWS, next * STEP_CHUNKS + w_chunk);
      }
      if (W_LOADS > 2u) {
        w2 = load_w(tile_col + w_row + 2u * W_LOAD_ROWS, next * STEP_CHUNKS + w_chunk);
        w3 = load_w(tile_col + w_row + 3u * W_LOAD_ROWS, next * STEP_CHUNKS + w_chunk);
      }

      {
        let b0 = subgroupMatrixLoad<Right, col_major>(&tile[right0], N0 + K0, ROW);
        let b1 = subgroupMatrixLoad<Right, col_major>(&tile[right1], N1 + K0, ROW);
        let a0 = subgroupMatrixLoad<Left, row_major>(&tile[left0], M0 + K0, ROW);
        let a1 = subgroupMatrixLoad<Left, row_major>(&tile[left1], M1 + K0, ROW);
        s00 = mma(a0, b0, s00);
        s01 = mma(a0, b1, s01);
        s10 = mma(a1, b0, s10);
        s11 = mma(a1, b1, s11);
        if (FRAGMENTS_N == 4u) {
          let b2 = subgroupMatrixLoad<Right, col_major>(&tile[right2], N2 + K0, ROW);
          let b3 = subgroupMatrixLoad<Right, col_major>(&tile[right3], N3 + K0, ROW);
          s02 = mma(a0, b2, s02);
          s03 = mma(a0, b3, s03);
          s12 = mma(a1, b2, s12);
          s13 = mma(a1, b3, s13);
          if (FRAGMENTS_M == 4u) {
            let a2 = subgroupMatrixLoad<Left, row_major>(&tile[left2], M2 + K0, ROW);
            let a3 = subgroupMatrixLoad<Left, row_major>(&tile[left3], M3 + K0, ROW);
            s20 = mma(a2, b0, s20);
            s21 = mma(a2, b1, s21);
            s22 = mma(a2, b2, s22);
            s23 = mma(a2, b3, s23);
            s30 = mma(a3, b0, s30);
            s31 = mma(a3, b1, s31);
            s32 = mma(a3, b2, s32);
            s33 = mma(a3, b3, s33);
          }
        }
      }
      {
        let b0 = subgroupMatrixLoad<Right, col_major>(&tile[right0], N0 + K1, ROW);
        let b1 = subgroupMatrixLoad<Right, col_major>(&tile[right1], N1 + K1, ROW);
        let a0 = subgroupMatrixLoad<Left, row_major>(&tile[left0], M0 + K1, ROW);
        let a1 = subgroupMatrixLoad<Left, row_major>(&tile[left1], M1 + K1, ROW);
        s00 = mma(a0, b0, s00);
        s01 = mma(a0, b1, s01);
        s10 = mma(a1, b0, s10);
        s11 = mma(a1, b1, s11);
        if (FRAGMENTS_N == 4u) {
          let b2 = subgroupMatrixLoad<Right, col_major>(&tile[right2], N2 + K1, ROW);
          let b3 = subgroupMatrixLoad<Right, col_major>(&tile[right3], N3 + K1, ROW);
          s02 = mma(a0, b2, s02);
          s03 = mma(a0, b3, s03);
          s12 = mma(a1, b2, s12);
          s13 = mma(a1, b3, s13);
          if (FRAGMENTS_M == 4u) {
            let a2 = subgroupMatrixLoad<Left, row_major>(&tile[left2], M2 + K1, ROW);
            let a3 = subgroupMatrixLoad<Left, row_major>(&tile[left3], M3 + K1, ROW);
            s20 = mma(a2, b0, s20);
            s21 = mma(a2, b1, s21);
            s22 = mma(a2, b2, s22);
            s23 = mma(a2, b3, s23);
            s30 = mma(a3, b0, s30);
            s31 = mma(a3, b1, s31);
            s32 = mma(a3, b2, s32);
            s33 = mma(a3, b3, s33);
          }
        }
      }
      if (STEP_FRAGMENTS == 4u) {
        {
          let b0 = subgroupMatrixLoad<Right, col_major>(&tile[right0], N0 + K2, ROW);
          let b1 = subgroupMatrixLoad<Right, col_major>(&tile[right1], N1 + K2, ROW);
          let a0 = subgroupMatrixLoad<Left, row_major>(&tile[left0], M0 + K2, ROW);
          let a1 = subgroupMatrixLoad<Left, row_major>(&tile[left1], M1 + K2, ROW);
          s00 = mma(a0, b0, s00);
          s01 = mma(a0, b1, s01);
          s10 = mma(a1, b0, s10);
          s11 = mma(a1, b1, s11);
          if (FRAGMENTS_N == 4u) {
            let b2 = subgroupMatrixLoad<Right, col_major>(&tile[right2], N2 + K2, ROW);
            let b3 = subgroupMatrixLoad<Right, col_major>(&tile[right3], N3 + K2, ROW);
            s02 = mma(a0, b2, s02);
            s03 = mma(a0, b3, s03);
            s12 = mma(a1, b2, s12);
            s13 = mma(a1, b3, s13);
            if (FRAGMENTS_M == 4u) {
              let a2 = subgroupMatrixLoad<Left, row_major>(&tile[left2], M2 + K2, ROW);
              let a3 = subgroupMatrixLoad<Left, row_major>(&tile[left3], M3 + K2, ROW);
              s20 = mma(a2, b0, s20);
              s21 = mma(a2, b1, s21);
              s22 = mma(a2, b2, s22);
              s23 = mma(a2, b3, s23);
              s30 = mma(a3, b0, s30);
              s31 = mma(a3, b1, s31);
              s32 = mma(a3, b2, s32);
              s33 = mma(a3, b3, s33);
            }
          }
        }
        {
          let b0 = subgroupMatrixLoad<Right, col_major>(&tile[right0], N0 + K3, ROW);
          let b1 = subgroupMatrixLoad<Right, col_major>(&tile[right1], N1 + K3, ROW);
          let a0 = subgroupMatrixLoad<Left, row_major>(&tile[left0], M0 + K3, ROW);
          let a1 = subgroupMatrixLoad<Left, row_major>(&tile[left1], M1 + K3, ROW);
          s00 = mma(a0, b0, s00);
          s01 = mma(a0, b1, s01);
          s10 = mma(a1, b0, s10);
          s11 = mma(a1, b1, s11);
          if (FRAGMENTS_N == 4u) {
            let b2 = subgroupMatrixLoad<Right, col_major>(&tile[right2], N2 + K3, ROW);
            let b3 = subgroupMatrixLoad<Right, col_major>(&tile[right3], N3 + K3, ROW);
            s02 = mma(a0, b2, s02);
            s03 = mma(a0, b3, s03);
            s12 = mma(a1, b2, s12);
            s13 = mma(a1, b3, s13);
            if (FRAGMENTS_M == 4u) {
              let a2 = subgroupMatrixLoad<Left, row_major>(&tile[left2], M2 + K3, ROW);
              let a3 = subgroupMatrixLoad<Left, row_major>(&tile[left3], M3 + K3, ROW);
              s20 = mma(a2, b0, s20);
              s21 = mma(a2, b1, s21);
              s22 = mma(a2, b2, s22);
              s23 = mma(a2, b3, s23);
              s30 = mma(a3, b0, s30);
              s31 = mma(a3, b1, s31);
              s32 = mma(a3, b2, s32);
              s33 = mma(a3, b3, s33);
            }
          }
        }
      }
      workgroupBarrier();
    }

    let row = tile_row + subgroup_m * SUBGROUP_M;
    let col = tile_col + subgroup_n * SUBGROUP_N;
    let finished = Finished(part, part == first_part, part == last_part);
    store_sums(finished, subgroup, lane, row, col, s00, s01, s02, s03);
    store_sums(finished, subgroup, lane, row + MMA_M, col, s10, s11, s12, s13);
    if (FRAGMENTS_M == 4u) {
      store_sums(finished, subgroup, lane, row + 2u * MMA_M, col, s20, s21, s22, s23);
      store_sums(finished, subgroup, lane, row + 3u * MMA_M, col, s30, s31, s32, s33);
    }
  }
}
