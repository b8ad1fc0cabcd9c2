// y[m, n] = x[m, k] · w[n, k]ᵀ for few rows of x: every weight is decoded where it is used, products are f32
// (x_floats.wgsl) or halves (x_halves.wgsl).
//
// x        f32 or f16[m, k], read by load_x4
// w_codes  kernel order: vec4<u32>[blocks of 32 rows, chunks of 32 codes, 32]
//
// A workgroup computes 8 · ROWS columns of y for X_ROWS rows of x. Its threads form THREADS / 8 columns of eight: thread j
// of a column has rows j, 8 + j, … of w, a column every so many-th chunk along k. So 32 neighbouring threads read whole
// cache lines, and a chunk of x, which a column shares, is read once for ROWS rows of w. x lies in workgroup memory, SLAB
// chunks at a time, in the form that it is multiplied in; a chunk is an odd number of vec4s, so that columns meet
// different banks. Codes of the next DEPTH chunks are on their way while one is multiplied, the first ones while x is
// staged, but asked for after x: they would hold it up.
// Past the end of k there are zeros in x, and the last chunk of w is repeated. K is a constant, so that loops have
// constant bounds; others are counted twice, against endless loops.
// Sums of columns meet in workgroup memory at the end, in a fixed order: with one and two rows of x in memory of their
// own (OWN_SUMS), with four where x was (SLAB_SUMS). One text for both took 1.5 to 8 % longer at m = 1.
// The grid is (x, y, z): rows of w over x and y together (one dimension ends at 65535), rows of x and SPLIT_K parts of
// k over z.
//
// Shared: SLAB · X_CHUNK · 16 + THREADS · ROWS · X_ROWS · 4 bytes, with four rows of x the larger of the two. Registers:
// about 5 · ROWS for codes and scales, 1 + DEPTH times, ROWS · X_ROWS for sums, 8 · X_ROWS for x, 30 besides. Features:
// none; shader-f16 for halves. Roundings on the longest path of a sum: BLOCK_SIZE for products, two a block, THREADS / 8
// for columns.
//
// Measured on an H200, µs, f32 / halves: n × k = 4096 × 4096, m = 1 6.9 / 6.4, 2 8.1 / 8.2, 4 10.0 / 10.6, 8 15.3 /
// 13.5, 16 26.5 / 22.4 (sums of columns in memory of their own: 10.4 / 10.4, 16.8 / 15.2, 30.2 / 26.6); m = 1: 1024 ×
// 4096 4.95 / 4.6, 14336 × 4096 14.9 / 12.9, 4096 × 14336 15.6 / 15.7, 28672 × 8192 44.4 / 37.3; m = 8, 14336 × 4096
// 49.5 / 41.3. With weights in rows and subgroups it took 8.3 at 4096 × 4096, 17.7 and 49.7 at the two large ones.
// Halves, chunks on their way at m = 1, 4096 × 4096, 14336 × 4096, 28672 × 8192: one 6.5, 13.6, 42.9; two 6.5, 12.8,
// 37.3; four 6.4, 13.0, 38.0. In f32 more than one is 3 to 10 % slower, except where n is small (5.2 → 4.95 at 1024).
// With MBS, scales added to the exponent of 1/f instead of multiplied: 38.6 for 39.0 at 28672 × 8192, but 10.9 for 10.7 at m = 4.
// Lost: loops over k with a bound from the problem, about a tenth slower; codes asked for before x; eight rows of x at a
// time, 18.0 at m = 8; all of x at once at m = 4, 12.3; 512 threads, 6.9 and 43; 64 threads, 11 and 39.
// Where n is small, halves, 1024 × 4096, 1024 × 8192, 1024 × 16384, 2048 × 5120: eight rows 4.4, 6.4, 9.8, 7.5 (sixteen 4.7,
// 6.8, 11.0, 7.2), with 512 threads and 256 chunks of x 4.4, 5.5, 8.4, 6.4 (sixteen rows 4.6, 6.1, 10.0, 6.1); k in four
// parts, sixteen rows 7.5, 7.7, 8.9, 9.7. 512 threads at 4096 × 4096 6.9 with sixteen rows, 8.2 with eight.
// At m = 4 18 shapes of workgroups, slabs, halves and f32 take 10.0 to 20. With 1, 2, 4 and 8 rows of x it takes 6.9, 8.1, 10.0
// and 15.4 in f32: 1.0 to 1.3 a row, where the multiply-adds of one take 0.57 at the ceiling.

@group(0) @binding(2) var<storage, read> w_codes: array<vec4<u32>>;

const COLUMNS = THREADS / 8u;
const CHUNKS = (K + 31u) / 32u;
const SLABS = (CHUNKS + SLAB - 1u) / SLAB;
const SPLIT_SLABS = (SLABS + SPLIT_K - 1u) / SPLIT_K;
// Steps of all columns that a slab takes.
const STEPS = (min(SLAB, CHUNKS) + COLUMNS * DEPTH - 1u) / (COLUMNS * DEPTH) * DEPTH;
// Workgroups that share a block of rows.
const SHARES = 4u / ROWS;

// repeat o < OWN_SUMS
var<workgroup> column_sums: array<f32, THREADS * ROWS * X_ROWS>;
// end repeat

// Four neighbours along k of a row of x, zeros past the edges.
fn read_x(row: u32, quad: u32) -> vec4<f32> {
  if (row < problem.m && quad < K / 4u) {
    return load_x4(row * (K / 4u) + quad);
  }
  return vec4<f32>();
}

// What a thread needs of its rows for a chunk.
struct Piece {
  codes: RowCodes,
  scales: ScaleWords,
}

fn load_piece(block: u32, first: u32, j: u32, chunk: u32) -> Piece {
  let at = min(chunk, CHUNKS - 1u);
  let index = (block * CHUNKS + at) * 32u + first * 8u + j;
  return Piece(load_codes(index), load_scale_words(block, at, j));
}

fn multiply_chunk(sums: RowSums, piece: Piece, first: u32, slab_chunk: u32) -> RowSums {
  var low = RowProducts();
  low = add_word(low, piece.codes, 0u, slab_chunk);
  low = add_word(low, piece.codes, 1u, slab_chunk);
  let low_scales = row_scales(piece.scales, 0u, first);
  if (CHAIN == 32u) {
    low = add_word(low, piece.codes, 2u, slab_chunk);
    low = add_word(low, piece.codes, 3u, slab_chunk);
    return add_block(sums, low, load_x_unit(slab_chunk, 0u), low_scales);
  }
  var high = RowProducts();
  high = add_word(high, piece.codes, 2u, slab_chunk);
  high = add_word(high, piece.codes, 3u, slab_chunk);
  var high_scales = low_scales;
  if (BLOCK_SIZE == 16u) {
    high_scales = row_scales(piece.scales, 1u, first);
  }
  return add_block(
    add_block(sums, low, load_x_unit(slab_chunk, 0u), low_scales),
    high,
    load_x_unit(slab_chunk, 1u),
    high_scales,
  );
}

@compute @workgroup_size(THREADS)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let share = workgroup.y * grid.x + workgroup.x;
  let block = share / SHARES;
  // The thread's rows of the block: 8 · (first + i) + j.
  let first = share % SHARES * ROWS;
  let j = thread % 8u;
  let column = thread / 8u;
  let first_row = workgroup.z / SPLIT_K * X_ROWS;
  let split = workgroup.z % SPLIT_K;
  part_of_k = split;

  var slab = split * SPLIT_SLABS;
  var x0 = read_piece(first_row, slab, thread);
  var x1: XPiece;
  if (PIECES > THREADS) {
    x1 = read_piece(first_row, slab, thread + THREADS);
  }
  let chunk = slab * SLAB + column;
  var piece0 = load_piece(block, first, j, chunk);
  var piece1: Piece;
  var piece2: Piece;
  var piece3: Piece;
  if (DEPTH > 1u) {
    piece1 = load_piece(block, first, j, chunk + COLUMNS);
  }
  if (DEPTH > 2u) {
    piece2 = load_piece(block, first, j, chunk + 2u * COLUMNS);
    piece3 = load_piece(block, first, j, chunk + 3u * COLUMNS);
  }
  var sums = RowSums();
  for (var s = 0u; s < SPLIT_SLABS; s++) {
    if (s > 0u) {
      workgroupBarrier();
    }
    put_piece(thread, x0);
    if (PIECES > THREADS) {
      put_piece(thread + THREADS, x1);
    }
    for (var i = 2u; i < PIECES / THREADS; i++) {
      put_piece(thread + i * THREADS, read_piece(first_row, slab, thread + i * THREADS));
    }
    workgroupBarrier();
    let first_chunk = slab * SLAB;
    slab++;
    if (s + 1u < SPLIT_SLABS) {
      x0 = read_piece(first_row, slab, thread);
      if (PIECES > THREADS) {
        x1 = read_piece(first_row, slab, thread + THREADS);
      }
    }

    for (var step = 0u; step < STEPS / DEPTH; step++) {
      let at = step * DEPTH * COLUMNS + column;
      // Where it can be, the number of rounds is a constant.
      if (SLABS * SLAB != CHUNKS && SLABS > 1u && first_chunk + step * DEPTH * COLUMNS >= CHUNKS) {
        break;
      }
      let next = first_chunk + at + DEPTH * COLUMNS;
      sums = multiply_chunk(sums, piece0, first, at);
      piece0 = load_piece(block, first, j, next);
      if (DEPTH > 1u) {
        sums = multiply_chunk(sums, piece1, first, at + COLUMNS);
        piece1 = load_piece(block, first, j, next + COLUMNS);
      }
      if (DEPTH > 2u) {
        sums = multiply_chunk(sums, piece2, first, at + 2u * COLUMNS);
        piece2 = load_piece(block, first, j, next + 2u * COLUMNS);
        sums = multiply_chunk(sums, piece3, first, at + 3u * COLUMNS);
        piece3 = load_piece(block, first, j, next + 3u * COLUMNS);
      }
    }
  }

  // repeat o < SLAB_SUMS
  workgroupBarrier();
  // end repeat
  store_row_sums(column, j, sums);
  workgroupBarrier();
  // repeat o < OWN_SUMS
  for (var i = thread; i < 8u * ROWS * X_ROWS; i += THREADS) {
    var sum = 0.0;
    for (var c = 0u; c < COLUMNS; c++) {
      sum += column_sums[c * (8u * ROWS * X_ROWS) + i % (8u * ROWS * X_ROWS)];
    }
    let row = first_row + i / (8u * ROWS);
    let col = 32u * block + 8u * first + i % (8u * ROWS);
    if (row < problem.m && col < problem.n) {
      epilogue(sum, row, col);
    }
  }
  // end repeat
  // repeat o < SLAB_SUMS
  if (thread < 8u * ROWS) {
    var sum = x_sums();
    for (var c = 0u; c < COLUMNS; c++) {
      sum += get_sums(c, thread);
    }
    finish_sums(sum, first_row, 32u * block + 8u * first + thread);
  }
  // end repeat
}
