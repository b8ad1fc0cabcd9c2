// y[m, n] = x[m, k] · w[n, k]ᵀ with subgroup matrices for few rows of x: f16 operands, f32 sums, weights read once.
//
// x         f16 fragments (operands/half_fragments.wgsl): vec4<u32>[rows / MMA_M, cols / MMA_K, MMA_M, MMA_K / 8]
// x_scales  f32[rows]: what a row of sums has to be multiplied by
// w_codes   kernel order: vec4<u32>[blocks of 32 rows, chunks of 32 codes, 32]
//
// A workgroup computes one to four (FRAGMENTS_M) fragments of rows of y. A subgroup has COLUMNS of its columns; SUBGROUPS of
// them split k between them, a chunk of 32 a round, and SUBGROUPS_N lie side by side, so that they read the same x at the same
// time; SPLIT_K workgroups may split k further. A lane decodes the chunk of LANE_ROWS rows of w into the part of workgroup
// memory that its subgroup has; rows there are followed by an empty vec4, so that they lie in different banks. Rounds are
// written out, up to MOST_WRITTEN · AHEAD of them, with the codes of AHEAD on their way: handing codes from one variable to the
// next would wait for them. Fragments of x are asked for X_AHEAD rounds before, one or none, where all rounds are written
// out. At the end the subgroups' sums meet in the same memory.
// The grid is (x, y, z): tiles of n over x and y together, SPLIT_K parts of k over z.
//
// Shared: SUBGROUPS · SUBGROUPS_N · max(COLUMNS · 80, MMA_M · COLUMNS · 4) bytes. Registers: 2 · FRAGMENTS_M · MMA_M · MMA_N /
// SUBGROUP_SIZE for sums, 5 or 6 · (AHEAD + 1) for codes, 8 · FRAGMENTS_M · (X_AHEAD + 1) for x, about 40 besides.
// Features: subgroups, shader-f16, chromium-experimental-subgroup-matrix.
// Error: as gemm_subgroup_matrix.wgsl with f16 elements.
//
// Measured on an H200, mxfp4, n = k = 4096, µs, m = 16, 32, 48, 64: 9.1, 11.4, 13.4, 16.0, and the conversion of x besides. As
// it was with 9.4, 11.2 for the first: without reading w and x 6.3, 7.0; without x 8.5, 9.3; without w 8.5, 10.4; without
// decoding 9.5, 11.4.
// x a round ahead: 9.1, 11.4 where in time it is 9.4, 11.7; with three and four fragments of rows 16.7 for 13.4 and 25.1 for
// 16.0, as it takes registers, and where rounds are in groups 117 for 93 (28672 × 8192, m = 16, four subgroups). No barrier
// before the first round: 11.4 for 11.6, 13.4 for 13.7, 16.0 for 16.2.
// With macro blocks of 128, whose factors are read once, m = 16 9.3 where every round reads them 9.6, m = 32 11.7 for 11.9, at
// 4096 × 14336 23.4 for 25.7, at 28672 × 8192 84.9 for 88.7 (m = 16); with more fragments of rows 13.3 for 13.1, 16.7 for 16.5.
//
// Indices are cut by &, not by %: that is a function with a division in it, behind which the driver no longer knows how
// large an index is: `subgroup_id % SUBGROUPS` alone takes m = 32 from 11.1 to 12.1, four fragments of rows from 17.2 to
// 19.4. One branch at the end, not one in another: 11.2 from 12.5.
// All of the rounds are written out: eight of 28 took 43 instead of 33 (4096 × 14336, m = 16). Where k is too long for
// that, groups of one size: 112 rounds in groups of 28 take 125 where groups of 32, of which the last may end at any
// round, took 203 (8192 × 28672, m = 48), 42 in groups of 14 76 for 106 (16384 × 5376, m = 64). One round of codes ahead
// 9.9, 11.7, three 9.1, 11.7, all eight 9.6, 11.9; codes asked for after the barrier 10.1, 11.9, x after it 10.3, 13.6.
// Neighbouring subgroups with neighbouring chunks instead of runs of their own: 0.1 to 0.5 more.
// Scales of all rounds asked for at the beginning: 9.0 for 9.1, 13.1 for 13.4, but 16.4 for 16.0 and 26.0 for 25.1 (m = 64, n =
// 8192). Half a chunk laid down while the other half is multiplied, with x half a round ahead: 10.1, 11.9, 13.8, 18.4, but
// 22.0 for 22.3 with four subgroups (14336 × 4096, m = 16).
// Level: scales of four chunks by one load, fragments of eight columns, sums at the end written out. Lost: 64 columns a
// workgroup, 21.4 and with k in two parts 17.1 (m = 16); rows of f16 x as they are, 16.6 and 28; several threads to a sum
// at the end, 13.7 (m = 16).
// Three and four fragments of rows, with the conversion of x, beside 64 × 64 tiles of gemm_subgroup_matrix.wgsl with k
// in as many parts as are best: m = 48 16.6 (tiles 21.3), 22.9 at 8192 × 4096 (31.8), 40.2 at 14336 × 4096 (48.9), 39.7
// at 4096 × 14336 (51.2); m = 64 19.5 (21.6), there with one round of codes ahead, two 20.9; every workgroup reads all
// of x, so that it takes 33.6 at 8192 × 4096 (32.2), 56.9 at 14336 × 4096 (49.3), 55.0 at 4096 × 14336 (51.4).
// Two subgroups side by side, m = 64: 28.3 at 8192 × 4096 (one 33.4, tiles 32.1), 28.0 at 6144 × 4096 (33.0, 31.5); with
// fewer rows and where n gives few workgroups nothing: at 4096 × 4096 with k in two parts 22.5.
// k in four parts where n is small: at 1024 × 4096 m = 16, 32 10.6, 11.4 where two parts take 11.8, 14.0.
// A core holds sixteen subgroups, of four fragments of rows twelve. In workgroups of 16, 8 and 4, where n gives a core
// several: at 8192 × 4096 16.4, 14.2, 20.5 and 21.0, 17.2, 22.7 (m = 16, 32), at 14336 × 4096 29.8, 25.7, 23.9 and 39.2,
// 31.5, 28.8. At 4096 × 4096, where it gives one, 9.4, 12.1, 19.5.
// x converted by each workgroup, which held it in registers for all its columns, in place of a dispatch: with up to
// eight rows of x 11.4 for 12.2, and 28.7 at 14336 × 4096, where workgroups of four subgroups take 27.1; with 16, 13.8
// for 12.4.

@group(0) @binding(1) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(7) var<storage, read> x_scales: array<f32>;

alias Left = subgroup_matrix_left<f16, MMA_K, MMA_M>;
alias Right = subgroup_matrix_right<f16, MMA_N, MMA_K>;
alias Sum = subgroup_matrix_result<f32, MMA_N, MMA_M>;

const ALL_SUBGROUPS = SUBGROUPS * SUBGROUPS_N;
const THREADS = ALL_SUBGROUPS * SUBGROUP_SIZE;
const COLUMNS = 2u * MMA_N;
const ROW = 5u;
const PART = max(COLUMNS * ROW, MMA_M * COLUMNS / 4u);
const CHUNK_FRAGMENTS = 32u / MMA_K;
const CHUNKS = (K + 31u) / 32u;
// Fragments that a row of them has.
const ROW_FRAGMENTS = CHUNKS * CHUNK_FRAGMENTS;
// Chunks of each of the subgroups that share k, one a round.
const ROUNDS = (CHUNKS + SUBGROUPS * SPLIT_K - 1u) / (SUBGROUPS * SPLIT_K);
// Rounds that are written out: all of them where k is not too long, else in groups of one size but for the last, which may
// have less.
const TURNS = (ROUNDS + AHEAD - 1u) / AHEAD;
const GROUPS = (TURNS + MOST_WRITTEN - 1u) / MOST_WRITTEN;
const DEPTH = (TURNS + GROUPS - 1u) / GROUPS * AHEAD;
const LAST_DEPTH = ROUNDS - (GROUPS - 1u) * DEPTH;
// Whether factors of macro blocks are read in the first of their rounds only: where every subgroup and every group of rounds
// begins with such a block. Not with more fragments of rows, where it takes longer.
const SHARED_MACROS =
  FRAGMENTS_M <= 2u && ROUNDS % MACRO_CHUNKS == 0u && (GROUPS == 1u || DEPTH % MACRO_CHUNKS == 0u);
// Not where rounds are in groups: there it takes longer.
const X_ROUNDS = select(X_AHEAD, 0u, GROUPS > 1u);
const LEFT_SIZE = MMA_M * MMA_K / 8u;
// Fours of neighbouring columns that a row of fragments has: at most one a thread.
const QUADS = MMA_M * COLUMNS / 4u;

var<workgroup> parts: array<array<vec4<u32>, PART>, ALL_SUBGROUPS>;

// Whether chunks in a round may be past the end of k.
const RAGGED = ROUNDS * SUBGROUPS * SPLIT_K != CHUNKS;

fn inside(chunk: u32) -> u32 {
  if (RAGGED) {
    return min(chunk, CHUNKS - 1u);
  }
  return chunk;
}

// Past the end of k the last chunk, which put_chunk makes zeros of. Rows past the edge are other ones or zeros, and are
// not stored.
fn load_w(row: u32, chunk: u32) -> Chunk {
  return load_chunk(row, inside(chunk));
}

fn put_chunk(subgroup: u32, row: u32, w: Chunk, w_row: u32, largest: u32, chunk: u32) {
  let i = (w_row & 31u) / 8u;
  var low = chunk_half_scale(w, 0u, i, largest);
  var high = chunk_half_scale(w, 1u, i, largest);
  if (RAGGED && chunk >= CHUNKS) {
    low = vec2<f16>();
    high = vec2<f16>();
  }
  // Cut here, as compilers do not see through calls that indices are in range.
  let part = subgroup & (ALL_SUBGROUPS - 1u);
  let at = (row & (COLUMNS - 1u)) * ROW;
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

// Lays a subgroup's sums of a row of fragments down, adds those of all subgroups, always in the same order, scales and
// stores them.
fn store_sums(
  subgroup: u32,
  thread: u32,
  first_row: u32,
  first_col: u32,
  x_scale: f32,
  largest: u32,
  s0: Sum,
  s1: Sum,
) {
  workgroupBarrier();
  subgroupMatrixStore<row_major>(&parts[subgroup & (ALL_SUBGROUPS - 1u)], 0u, s0, COLUMNS / 4u);
  subgroupMatrixStore<row_major>(&parts[subgroup & (ALL_SUBGROUPS - 1u)], MMA_N / 4u, s1, COLUMNS / 4u);
  workgroupBarrier();
  let quad = thread & (QUADS - 1u);
  let side = (thread / QUADS) & (SUBGROUPS_N - 1u);
  let row = first_row + quad / (COLUMNS / 4u);
  let col = first_col + side * COLUMNS + (quad & (COLUMNS / 4u - 1u)) * 4u;
  if (thread < QUADS * SUBGROUPS_N && row < problem.m && col < problem.n) {
    var sum = vec4<f32>();
    for (var s = 0u; s < SUBGROUPS; s++) {
      sum += bitcast<vec4<f32>>(parts[s * SUBGROUPS_N + side][quad]);
    }
    sum *= x_scale;
    let y4 = vec4<f32>(
      undo_half_scale(sum.x, largest & 0xFFu),
      undo_half_scale(sum.y, (largest >> 8u) & 0xFFu),
      undo_half_scale(sum.z, (largest >> 16u) & 0xFFu),
      undo_half_scale(sum.w, largest >> 24u),
    );
    epilogue4(y4, row, col);
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
  let subgroup = subgroup_id & (ALL_SUBGROUPS - 1u);
  let first_col = (workgroup.y * grid.x + workgroup.x) * COLUMNS * SUBGROUPS_N;
  let col = first_col + (subgroup & (SUBGROUPS_N - 1u)) * COLUMNS;
  let split = workgroup.z;
  part_of_k = split;
  let first_chunk = (split * SUBGROUPS + subgroup / SUBGROUPS_N) * ROUNDS;

  // repeat l < LANE_ROWS
  let row$l = col + $lu * SUBGROUP_SIZE + lane;
  let largest$l = row_max_byte(row$l);
  // repeat r < AHEAD
  var w$r$l: Chunk;
  if ($ru < ROUNDS) {
    w$r$l = load_w(row$l, first_chunk + $ru);
  }
  // end repeat
  // end repeat
  // What the thread's sums have to be multiplied by, asked for before they are there.
  let largest4 = row_max_word(
    (first_col + ((thread / QUADS) & (SUBGROUPS_N - 1u)) * COLUMNS) / 4u + (thread & (COLUMNS / 4u - 1u)),
  );
  // repeat i < FRAGMENTS_M
  let x_scale$i = x_scales[$iu * MMA_M + ((thread / (COLUMNS / 4u)) & (MMA_M - 1u))];
  // end repeat

  // repeat l < LANE_ROWS
  var macros$l = 0u;
  // end repeat
  // repeat i < FRAGMENTS_M
  var s$i0: Sum;
  var s$i1: Sum;
  // repeat q < CHUNK_FRAGMENTS
  var x$i$q: Left;
  if (X_ROUNDS > 0u) {
    x$i$q = load_left(inside(first_chunk) * CHUNK_FRAGMENTS + $iu * ROW_FRAGMENTS + $qu);
  }
  // end repeat
  // end repeat
  for (var group = 0u; group < GROUPS; group++) {
    // repeat g < WRITTEN
    // repeat r < AHEAD
    if ($gu * AHEAD + $ru < LAST_DEPTH || group * DEPTH + $gu * AHEAD + $ru < ROUNDS) {
      let round = group * DEPTH + $gu * AHEAD + $ru;
      let chunk = first_chunk + round;
      let fragment = inside(chunk + X_ROUNDS) * CHUNK_FRAGMENTS;
      // Codes and fragments of x of later rounds are asked for before the barriers.
      // repeat l < LANE_ROWS
      var next$l = w$r$l;
      if (round + AHEAD < ROUNDS) {
        next$l = load_w(row$l, chunk + AHEAD);
      }
      // end repeat
      // repeat q < CHUNK_FRAGMENTS
      // repeat i < FRAGMENTS_M
      var a$i$q = x$i$q;
      if (X_ROUNDS == 0u) {
        a$i$q = load_left(fragment + $iu * ROW_FRAGMENTS + $qu);
      } else if (round + X_ROUNDS < ROUNDS) {
        x$i$q = load_left(fragment + $iu * ROW_FRAGMENTS + $qu);
      }
      // end repeat
      // end repeat
      // Nothing reads the memory before the first round.
      if (GROUPS > 1u || $gu * AHEAD + $ru > 0u) {
        workgroupBarrier();
      }
      // repeat l < LANE_ROWS
      if (SHARED_MACROS && ($gu * AHEAD + $ru) % MACRO_CHUNKS > 0u) {
        w$r$l.scales.macros = macros$l;
      }
      macros$l = w$r$l.scales.macros;
      put_chunk(subgroup, $lu * SUBGROUP_SIZE + lane, w$r$l, row$l, largest$l, chunk);
      w$r$l = next$l;
      // end repeat
      workgroupBarrier();
      // repeat q < CHUNK_FRAGMENTS
      {
        let b0 = subgroupMatrixLoad<Right, col_major>(&parts[subgroup], $qu * (MMA_K / 8u), ROW);
        // repeat i < FRAGMENTS_M
        s$i0 = mma(a$i$q, b0, s$i0);
        // end repeat
        let b1 = subgroupMatrixLoad<Right, col_major>(&parts[subgroup], MMA_N * ROW + $qu * (MMA_K / 8u), ROW);
        // repeat i < FRAGMENTS_M
        s$i1 = mma(a$i$q, b1, s$i1);
        // end repeat
      }
      // end repeat
    }
    // end repeat
    // end repeat
  }

  // repeat i < FRAGMENTS_M
  store_sums(subgroup, thread, $iu * MMA_M, first_col, x_scale$i, largest4, s$i0, s$i1);
  // end repeat
}
