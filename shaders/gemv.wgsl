// y[m, n] = x[m, k] · w[n, k]ᵀ for few rows of x: every weight is decoded where it is used, in f32.
//
// x        f32 or f16[m, k], read by load_x4
// w_codes  kernel order: vec4<u32>[blocks of 32 rows, chunks of 32 codes, 32]
//
// A workgroup computes 8 · ROWS columns of y for X_ROWS rows of x. Its threads form THREADS / 8 columns of eight: thread j
// of a column has rows j, 8 + j, … of w, a column every so many-th chunk along k. So 32 neighbouring threads read whole
// cache lines, and a chunk of x, which a column shares, is read once for ROWS rows of w. x lies in workgroup memory, SLAB
// chunks at a time, in the form that x_rows_*.wgsl multiplies with; chunks are followed by an empty vec4, so that columns
// meet different banks. Codes of the next chunk are on their way while one is multiplied, the first ones while x
// is staged, but asked for after x: they would hold it up.
// Past the end of k there are zeros in x, and the last chunk of w is repeated. K is a constant, so that loops have
// constant bounds; others are counted twice, against endless loops.
// Sums of columns meet in workgroup memory at the end, in a fixed order.
// The grid is (x, y, z): rows of w over x and y together (one dimension ends at 65535), rows of x and SPLIT_K parts of
// k over z.
//
// Shared: SLAB · X_CHUNK · 16 + THREADS · ROWS · X_ROWS · 4 bytes. Registers: about 5 · ROWS for codes and scales, twice,
// ROWS · X_ROWS for sums, 8 · X_ROWS for x, 30 besides. Features: none.
// Roundings on the longest path of a sum: BLOCK_SIZE for products, two a block, THREADS / 8 for columns.
//
// Measured on an H200, µs: n × k = 4096 × 4096, m = 1, 2, 4, 8, 16: 6.8, 8.1, 10.4, 16.0, 28.5; 14336 × 4096, m = 1: 14.8;
// 28672 × 8192, m = 1: 45.7. With weights in rows and subgroups it took 8.3, 13.2, 15.0, 23.3, 32.5; 17.7; 49.7.
// Lost: loops over k with a bound from the problem, about a tenth slower; codes asked for before x.

@group(0) @binding(2) var<storage, read> w_codes: array<vec4<u32>>;

const COLUMNS = THREADS / 8u;
const CHUNKS = (K + 31u) / 32u;
const SLABS = (CHUNKS + SLAB - 1u) / SLAB;
const SPLIT_SLABS = (SLABS + SPLIT_K - 1u) / SPLIT_K;
// Steps of all columns that a slab takes.
const STEPS = (min(SLAB, CHUNKS) + COLUMNS - 1u) / COLUMNS;
// Workgroups that share a block of rows.
const SHARES = 4u / ROWS;
// Pieces of four neighbours along k that a slab has of each row of x.
const SLAB_QUADS = SLAB * 8u;

var<workgroup> x_slab: array<vec4<f32>, SLAB * X_CHUNK>;
var<workgroup> column_sums: array<f32, THREADS * ROWS * X_ROWS>;

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
  if (BLOCK_SIZE == 32u) {
    low = add_word(low, piece.codes, 2u, slab_chunk);
    low = add_word(low, piece.codes, 3u, slab_chunk);
    return add_block(sums, low, row_scales(piece.scales, 0u, first));
  }
  var high = RowProducts();
  high = add_word(high, piece.codes, 2u, slab_chunk);
  high = add_word(high, piece.codes, 3u, slab_chunk);
  return add_block(
    add_block(sums, low, row_scales(piece.scales, 0u, first)),
    high,
    row_scales(piece.scales, 1u, first),
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
  var x0 = read_quad(first_row, slab * SLAB_QUADS + thread);
  var x1 = read_quad(first_row, slab * SLAB_QUADS + thread + THREADS);
  var next = load_piece(block, first, j, slab * SLAB + column);
  var sums = RowSums();
  for (var s = 0u; s < SPLIT_SLABS; s++) {
    if (s > 0u) {
      workgroupBarrier();
    }
    put_quad(thread, x0);
    put_quad(thread + THREADS, x1);
    for (var i = 2u; i < SLAB_QUADS / THREADS; i++) {
      put_quad(thread + i * THREADS, read_quad(first_row, slab * SLAB_QUADS + thread + i * THREADS));
    }
    workgroupBarrier();
    let first_chunk = slab * SLAB;
    slab++;
    if (s + 1u < SPLIT_SLABS) {
      x0 = read_quad(first_row, slab * SLAB_QUADS + thread);
      x1 = read_quad(first_row, slab * SLAB_QUADS + thread + THREADS);
    }

    for (var step = 0u; step < STEPS; step++) {
      // Where it can be, the number of rounds is a constant.
      if (SLABS * SLAB != CHUNKS && SLABS > 1u && first_chunk + step * COLUMNS >= CHUNKS) {
        break;
      }
      let piece = next;
      let slab_chunk = step * COLUMNS + column;
      next = load_piece(block, first, j, first_chunk + slab_chunk + COLUMNS);
      sums = multiply_chunk(sums, piece, first, slab_chunk);
    }
  }

  store_row_sums(column, j, sums);
  workgroupBarrier();
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
}
