// y[m, n] = x[m, k] · w[n, k]ᵀ with subgroup matrices; elements and sums are those of matrix_f16.wgsl or matrix_i8.wgsl.
//
// x          elements in tiles: vec4<u32>[tiles of m, steps of k, TILE_M, TILE_K · ELEMENT_BYTES / 16]
// x_scales   f32[rows]: what a row of sums has to be multiplied by
// w_codes    kernel order: vec4<u32>[blocks of 32 rows, chunks of 32 codes, 32]
// w_row_max  the largest scale byte of each row of w, which its elements are relative to
//
// A workgroup of SUBGROUPS_M × SUBGROUPS_N subgroups computes TILE_M × TILE_N of y, a subgroup FRAGMENTS_M ×
// FRAGMENTS_N fragments of it. In steps of TILE_K along k it copies its tile of x to workgroup memory and decodes the
// weights of its columns beside it, once; what the next step needs is on its way while the matrices multiply. Rows in
// workgroup memory are followed by sixteen empty bytes, so that the rows of a fragment lie in different banks.
// At the end each subgroup lays a row of fragments down in the same memory, to scale and store it row by row.
// FRAGMENTS_M × FRAGMENTS_N are 2 × 2, 2 × 4 or 4 × 4; all is written out for 4 × 4 and four fragments along k: fragments
// need names, as drivers keep arrays of matrices that loops index in local memory, and offsets into workgroup memory have
// to be constants, as others are checked and selected at run time. So it is cut into parts of PART_ROWS rows.
// The grid is (tiles of m, tiles of n, SPLIT_K parts of k).
//
// Shared: (TILE_M + TILE_N) · (TILE_K · ELEMENT_BYTES + 16) bytes, or what sums need. Registers: FRAGMENTS_M ·
// FRAGMENTS_N · MMA_M · MMA_N / SUBGROUP_SIZE for sums, 4 · (X_LOADS + W_LOADS), about 60 besides.
// Features: subgroups, chromium-experimental-subgroup-matrix, and with f16 elements shader-f16.
// Error: elements as stated where they are made, f32 sums in an order that the device chooses.
//
// Measured on an H200, mxfp4, n = k = 4096, µs with the conversion of x (16 and 5.5 to f16, 12.5 and 5 to int8), m = 2048
// and 512. f16: 128 × 128 × 64 with four subgroups 267 and 70, with eight 307 and 79; 64 × 128 × 64 393 and 101. int8: 128 ×
// 128 × 64 with four subgroups 156 and 55, 128 × 128 × 128 with eight 178 and 47; 64 × 64 × 128 239 and 64.
// Of the 251 µs of f16 without conversion, matrices alone take 124; leaving out the staging of x saves 42, of w 66, of
// which decoding is 28; barriers take 50 ns each. What mattered most, in µs at m = 2048 / 512 with f16: weights in blocks of
// 32 rows instead of rows 291 → 246 / 93 → 82, x in tiles 15, steps of 64 instead of 32 (m = 512) 82 → 62, four columns at a
// time at the end 12 a tile, a constant number of rounds 291 → 267 / 76 → 70, indices cut where arrays are accessed 10.
// Lost: two tiles in turn, 383; two steps on the way, 250 against 246; touching the next lines for the cache, 327; a
// conflict-free order of stores whose loads are scattered, 271; 256 × 128 tiles, 317.
// Blocks of 16 gave wrong sums with f16 and fragments of 16 × 16 × 16 there (driver 580.159), and right ones with 8 × 8 × 8
// on a software adapter: the kernel refuses them where fragments are larger than 8.

@group(0) @binding(1) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> w_codes: array<vec4<u32>>;
@group(0) @binding(7) var<storage, read> x_scales: array<f32>;

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
const STEP_CHUNKS = TILE_K / 32u;
// Pieces of sixteen bytes that a row of x has in a step, and a tile of it.
const STEP_VECTORS = TILE_K * ELEMENT_BYTES / 16u;
const TILE_VECTORS = TILE_M * STEP_VECTORS;
// Pieces of x that a thread copies in a step, and chunks of w that it decodes.
const X_LOADS = TILE_VECTORS / THREADS;
const W_LOADS = TILE_N * STEP_CHUNKS / THREADS;

// In words of workgroup memory (tile_*.wgsl): a row, a row of sums and a fragment of one.
const ROW = (TILE_K * ELEMENT_BYTES + 16u) / WORD;
const SUMS_ROW = (SUBGROUP_N * 4u + 16u) / WORD;
const SUMS = MMA_N * 4u / WORD;
const PART_ROWS = min(SUBGROUP_M, SUBGROUP_N);
const X_PARTS = TILE_M / PART_ROWS;
const PARTS = max(X_PARTS + TILE_N / PART_ROWS, SUBGROUPS);
const PART = max(PART_ROWS * ROW, MMA_M * SUMS_ROW);
// Where a fragment begins inside a part: four along m, four along n, four along k. What FRAGMENTS_M and FRAGMENTS_N leave
// out is the last fragment again, loaded and not used.
const M0 = 0u;
const M1 = MMA_M % PART_ROWS * ROW;
const M2 = min(2u, FRAGMENTS_M - 1u) * MMA_M % PART_ROWS * ROW;
const M3 = min(3u, FRAGMENTS_M - 1u) * MMA_M % PART_ROWS * ROW;
const N0 = 0u;
const N1 = MMA_N % PART_ROWS * ROW;
const N2 = min(2u, FRAGMENTS_N - 1u) * MMA_N % PART_ROWS * ROW;
const N3 = min(3u, FRAGMENTS_N - 1u) * MMA_N % PART_ROWS * ROW;
const K0 = 0u;
const K1 = MMA_K * ELEMENT_BYTES / WORD;
const K2 = 2u % STEP_FRAGMENTS * MMA_K * ELEMENT_BYTES / WORD;
const K3 = 3u % STEP_FRAGMENTS * MMA_K * ELEMENT_BYTES / WORD;

// Chunk of codes on its way from memory to the tile.
struct Chunk {
  codes: vec4<u32>,
  scales: u32,
  macros: u32,
}

fn load_x(step: u32, tile_m: u32, i: u32) -> vec4<u32> {
  return x[(tile_m * STEPS + step) * TILE_VECTORS + i];
}

fn put_x(i: u32, values: vec4<u32>) {
  tile_put(i / STEP_VECTORS, i % STEP_VECTORS, values);
}

// Neighbouring threads take the rows of a block, then the chunks of a step, then further blocks: the same chunk of rows
// LOAD_ROWS apart, and unit `unit` of what they load in steps.
const LOAD_ROWS = THREADS / STEP_CHUNKS;

fn w_row(thread: u32) -> u32 {
  return thread / (32u * STEP_CHUNKS) * 32u + thread % 32u;
}

fn w_chunk(thread: u32) -> u32 {
  return thread / 32u % STEP_CHUNKS;
}

// Past the edges other weights are taken, or the zeros that a device gives past the end of a buffer: of rows that are not
// stored, and of columns where x is zero.
fn load_w(step: u32, row: u32, thread: u32) -> Chunk {
  var chunk = step * STEP_CHUNKS + w_chunk(thread);
  if (K % TILE_K != 0u) {
    chunk = min(chunk, chunks_per_row() - 1u);
  }
  return Chunk(
    w_codes[chunk_index(row, chunk)],
    chunk_scale_bytes(row, chunk),
    chunk_macro_byte(row, chunk),
  );
}

fn put_w(unit: u32, thread: u32, chunk: Chunk, value: u32) {
  put_chunk(TILE_M + unit * LOAD_ROWS + w_row(thread), w_chunk(thread), chunk, value);
}

fn mma(a: Left, b: Right, sum: Sum) -> Sum {
  return subgroupMatrixMultiplyAccumulate(a, b, sum);
}

// Lays a row of fragments down, then scales and stores it. What FRAGMENTS_N leaves out is laid down nowhere, at an offset
// that exists.
fn store_sums(
  subgroup: u32,
  lane: u32,
  first_row: u32,
  first_col: u32,
  s0: Sum,
  s1: Sum,
  s2: Sum,
  s3: Sum,
) {
  workgroupBarrier();
  subgroupMatrixStore<row_major>(&tile[subgroup % SUBGROUPS], 0u, s0, SUMS_ROW);
  subgroupMatrixStore<row_major>(&tile[subgroup % SUBGROUPS], SUMS, s1, SUMS_ROW);
  if (FRAGMENTS_N == 4u) {
    subgroupMatrixStore<row_major>(&tile[subgroup % SUBGROUPS], min(2u, FRAGMENTS_N - 1u) * SUMS, s2, SUMS_ROW);
    subgroupMatrixStore<row_major>(&tile[subgroup % SUBGROUPS], min(3u, FRAGMENTS_N - 1u) * SUMS, s3, SUMS_ROW);
  }
  workgroupBarrier();
  // Four columns a lane.
  const QUADS = SUBGROUP_N / 4u;
  for (var i = lane; i < MMA_M * QUADS; i += SUBGROUP_SIZE) {
    let row = first_row + i / QUADS;
    let col = first_col + i % QUADS * 4u;
    if (row < problem.m && col < problem.n) {
      let sums = tile_sums4(subgroup, i / QUADS, i % QUADS);
      let x_scale = x_scales[row];
      let largest = row_max_word(col / 4u);
      let y4 = vec4<f32>(
        finish_sum(sums.x, x_scale, largest & 0xFFu),
        finish_sum(sums.y, x_scale, (largest >> 8u) & 0xFFu),
        finish_sum(sums.z, x_scale, (largest >> 16u) & 0xFFu),
        finish_sum(sums.w, x_scale, largest >> 24u),
      );
      epilogue4(y4, row, col);
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

  let left0 = subgroup_m * (SUBGROUP_M / PART_ROWS);
  let left1 = left0 + MMA_M / PART_ROWS;
  let left2 = left0 + min(2u, FRAGMENTS_M - 1u) * MMA_M / PART_ROWS;
  let left3 = left0 + min(3u, FRAGMENTS_M - 1u) * MMA_M / PART_ROWS;
  let right0 = X_PARTS + subgroup_n * (SUBGROUP_N / PART_ROWS);
  let right1 = right0 + MMA_N / PART_ROWS;
  let right2 = right0 + min(2u, FRAGMENTS_N - 1u) * MMA_N / PART_ROWS;
  let right3 = right0 + min(3u, FRAGMENTS_N - 1u) * MMA_N / PART_ROWS;

  let row0 = first_col + w_row(thread);
  let row1 = row0 + LOAD_ROWS;
  let row2 = row0 + 2u * LOAD_ROWS;
  let row3 = row0 + 3u * LOAD_ROWS;
  let value0 = row_value(row_max_byte(row0));
  let value1 = row_value(row_max_byte(row1));
  let value2 = row_value(row_max_byte(row2));
  let value3 = row_value(row_max_byte(row3));
  let begin = min(first_step, STEPS - 1u);
  var x0 = load_x(begin, tile_m, thread);
  var x1: vec4<u32>;
  var x2: vec4<u32>;
  var x3: vec4<u32>;
  var x4: vec4<u32>;
  var x5: vec4<u32>;
  var x6: vec4<u32>;
  var x7: vec4<u32>;
  if (X_LOADS > 1u) {
    x1 = load_x(begin, tile_m, thread + THREADS);
  }
  if (X_LOADS > 2u) {
    x2 = load_x(begin, tile_m, thread + 2u * THREADS);
    x3 = load_x(begin, tile_m, thread + 3u * THREADS);
  }
  if (X_LOADS > 4u) {
    x4 = load_x(begin, tile_m, thread + 4u * THREADS);
    x5 = load_x(begin, tile_m, thread + 5u * THREADS);
    x6 = load_x(begin, tile_m, thread + 6u * THREADS);
    x7 = load_x(begin, tile_m, thread + 7u * THREADS);
  }
  var w0 = load_w(begin, row0, thread);
  var w1: Chunk;
  var w2: Chunk;
  var w3: Chunk;
  if (W_LOADS > 1u) {
    w1 = load_w(begin, row1, thread);
  }
  if (W_LOADS > 2u) {
    w2 = load_w(begin, row2, thread);
    w3 = load_w(begin, row3, thread);
  }

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
  for (var s = 0u; s < SPLIT_STEPS; s++) {
    let step = first_step + s;
    // Where it can be, the number of rounds is a constant.
    if (SPLIT_STEPS * SPLIT_K != STEPS && step >= STEPS) {
      break;
    }
    put_x(thread, x0);
    if (X_LOADS > 1u) {
      put_x(thread + THREADS, x1);
    }
    if (X_LOADS > 2u) {
      put_x(thread + 2u * THREADS, x2);
      put_x(thread + 3u * THREADS, x3);
    }
    if (X_LOADS > 4u) {
      put_x(thread + 4u * THREADS, x4);
      put_x(thread + 5u * THREADS, x5);
      put_x(thread + 6u * THREADS, x6);
      put_x(thread + 7u * THREADS, x7);
    }
    put_w(0u, thread, w0, value0);
    if (W_LOADS > 1u) {
      put_w(1u, thread, w1, value1);
    }
    if (W_LOADS > 2u) {
      put_w(2u, thread, w2, value2);
      put_w(3u, thread, w3, value3);
    }
    workgroupBarrier();

    let next = min(step + 1u, STEPS - 1u);
    x0 = load_x(next, tile_m, thread);
    if (X_LOADS > 1u) {
      x1 = load_x(next, tile_m, thread + THREADS);
    }
    if (X_LOADS > 2u) {
      x2 = load_x(next, tile_m, thread + 2u * THREADS);
      x3 = load_x(next, tile_m, thread + 3u * THREADS);
    }
    if (X_LOADS > 4u) {
      x4 = load_x(next, tile_m, thread + 4u * THREADS);
      x5 = load_x(next, tile_m, thread + 5u * THREADS);
      x6 = load_x(next, tile_m, thread + 6u * THREADS);
      x7 = load_x(next, tile_m, thread + 7u * THREADS);
    }
    w0 = load_w(next, row0, thread);
    if (W_LOADS > 1u) {
      w1 = load_w(next, row1, thread);
    }
    if (W_LOADS > 2u) {
      w2 = load_w(next, row2, thread);
      w3 = load_w(next, row3, thread);
    }

    {
      let a0 = subgroupMatrixLoad<Left, row_major>(&tile[left0], M0 + K0, ROW);
      let a1 = subgroupMatrixLoad<Left, row_major>(&tile[left1], M1 + K0, ROW);
      let a2 = subgroupMatrixLoad<Left, row_major>(&tile[left2], M2 + K0, ROW);
      let a3 = subgroupMatrixLoad<Left, row_major>(&tile[left3], M3 + K0, ROW);
      let b0 = subgroupMatrixLoad<Right, col_major>(&tile[right0], N0 + K0, ROW);
      let b1 = subgroupMatrixLoad<Right, col_major>(&tile[right1], N1 + K0, ROW);
      let b2 = subgroupMatrixLoad<Right, col_major>(&tile[right2], N2 + K0, ROW);
      let b3 = subgroupMatrixLoad<Right, col_major>(&tile[right3], N3 + K0, ROW);
      s00 = mma(a0, b0, s00);
      s01 = mma(a0, b1, s01);
      if (FRAGMENTS_N == 4u) {
        s02 = mma(a0, b2, s02);
        s03 = mma(a0, b3, s03);
        s13 = mma(a1, b3, s13);
        s12 = mma(a1, b2, s12);
      }
      s11 = mma(a1, b1, s11);
      s10 = mma(a1, b0, s10);
      if (FRAGMENTS_M == 4u) {
        s20 = mma(a2, b0, s20);
        s21 = mma(a2, b1, s21);
        s22 = mma(a2, b2, s22);
        s23 = mma(a2, b3, s23);
        s33 = mma(a3, b3, s33);
        s32 = mma(a3, b2, s32);
        s31 = mma(a3, b1, s31);
        s30 = mma(a3, b0, s30);
      }
    }
    {
      let a0 = subgroupMatrixLoad<Left, row_major>(&tile[left0], M0 + K1, ROW);
      let a1 = subgroupMatrixLoad<Left, row_major>(&tile[left1], M1 + K1, ROW);
      let a2 = subgroupMatrixLoad<Left, row_major>(&tile[left2], M2 + K1, ROW);
      let a3 = subgroupMatrixLoad<Left, row_major>(&tile[left3], M3 + K1, ROW);
      let b0 = subgroupMatrixLoad<Right, col_major>(&tile[right0], N0 + K1, ROW);
      let b1 = subgroupMatrixLoad<Right, col_major>(&tile[right1], N1 + K1, ROW);
      let b2 = subgroupMatrixLoad<Right, col_major>(&tile[right2], N2 + K1, ROW);
      let b3 = subgroupMatrixLoad<Right, col_major>(&tile[right3], N3 + K1, ROW);
      s00 = mma(a0, b0, s00);
      s01 = mma(a0, b1, s01);
      if (FRAGMENTS_N == 4u) {
        s02 = mma(a0, b2, s02);
        s03 = mma(a0, b3, s03);
        s13 = mma(a1, b3, s13);
        s12 = mma(a1, b2, s12);
      }
      s11 = mma(a1, b1, s11);
      s10 = mma(a1, b0, s10);
      if (FRAGMENTS_M == 4u) {
        s20 = mma(a2, b0, s20);
        s21 = mma(a2, b1, s21);
        s22 = mma(a2, b2, s22);
        s23 = mma(a2, b3, s23);
        s33 = mma(a3, b3, s33);
        s32 = mma(a3, b2, s32);
        s31 = mma(a3, b1, s31);
        s30 = mma(a3, b0, s30);
      }
    }
    if (STEP_FRAGMENTS == 4u) {
      {
        let a0 = subgroupMatrixLoad<Left, row_major>(&tile[left0], M0 + K2, ROW);
        let a1 = subgroupMatrixLoad<Left, row_major>(&tile[left1], M1 + K2, ROW);
        let a2 = subgroupMatrixLoad<Left, row_major>(&tile[left2], M2 + K2, ROW);
        let a3 = subgroupMatrixLoad<Left, row_major>(&tile[left3], M3 + K2, ROW);
        let b0 = subgroupMatrixLoad<Right, col_major>(&tile[right0], N0 + K2, ROW);
        let b1 = subgroupMatrixLoad<Right, col_major>(&tile[right1], N1 + K2, ROW);
        let b2 = subgroupMatrixLoad<Right, col_major>(&tile[right2], N2 + K2, ROW);
        let b3 = subgroupMatrixLoad<Right, col_major>(&tile[right3], N3 + K2, ROW);
        s00 = mma(a0, b0, s00);
        s01 = mma(a0, b1, s01);
        if (FRAGMENTS_N == 4u) {
          s02 = mma(a0, b2, s02);
          s03 = mma(a0, b3, s03);
          s13 = mma(a1, b3, s13);
          s12 = mma(a1, b2, s12);
        }
        s11 = mma(a1, b1, s11);
        s10 = mma(a1, b0, s10);
        if (FRAGMENTS_M == 4u) {
          s20 = mma(a2, b0, s20);
          s21 = mma(a2, b1, s21);
          s22 = mma(a2, b2, s22);
          s23 = mma(a2, b3, s23);
          s33 = mma(a3, b3, s33);
          s32 = mma(a3, b2, s32);
          s31 = mma(a3, b1, s31);
          s30 = mma(a3, b0, s30);
        }
      }
      {
        let a0 = subgroupMatrixLoad<Left, row_major>(&tile[left0], M0 + K3, ROW);
        let a1 = subgroupMatrixLoad<Left, row_major>(&tile[left1], M1 + K3, ROW);
        let a2 = subgroupMatrixLoad<Left, row_major>(&tile[left2], M2 + K3, ROW);
        let a3 = subgroupMatrixLoad<Left, row_major>(&tile[left3], M3 + K3, ROW);
        let b0 = subgroupMatrixLoad<Right, col_major>(&tile[right0], N0 + K3, ROW);
        let b1 = subgroupMatrixLoad<Right, col_major>(&tile[right1], N1 + K3, ROW);
        let b2 = subgroupMatrixLoad<Right, col_major>(&tile[right2], N2 + K3, ROW);
        let b3 = subgroupMatrixLoad<Right, col_major>(&tile[right3], N3 + K3, ROW);
        s00 = mma(a0, b0, s00);
        s01 = mma(a0, b1, s01);
        if (FRAGMENTS_N == 4u) {
          s02 = mma(a0, b2, s02);
          s03 = mma(a0, b3, s03);
          s13 = mma(a1, b3, s13);
          s12 = mma(a1, b2, s12);
        }
        s11 = mma(a1, b1, s11);
        s10 = mma(a1, b0, s10);
        if (FRAGMENTS_M == 4u) {
          s20 = mma(a2, b0, s20);
          s21 = mma(a2, b1, s21);
          s22 = mma(a2, b2, s22);
          s23 = mma(a2, b3, s23);
          s33 = mma(a3, b3, s33);
          s32 = mma(a3, b2, s32);
          s31 = mma(a3, b1, s31);
          s30 = mma(a3, b0, s30);
        }
      }
    }
    workgroupBarrier();
  }

  let row = tile_m * TILE_M + subgroup_m * SUBGROUP_M;
  let col = first_col + subgroup_n * SUBGROUP_N;
  store_sums(subgroup, lane, row, col, s00, s01, s02, s03);
  store_sums(subgroup, lane, row + MMA_M, col, s10, s11, s12, s13);
  if (FRAGMENTS_M == 4u) {
    store_sums(subgroup, lane, row + 2u * MMA_M, col, s20, s21, s22, s23);
    store_sums(subgroup, lane, row + 3u * MMA_M, col, s30, s31, s32, s33);
  }
}
