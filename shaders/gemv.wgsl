// y[m, n] = x[m, k] · w[n, k]ᵀ for few rows of x: every weight is decoded where it is used, in f32.
//
// x        f32 or f16[m, k], read by load_x4
// w_codes  kernel order: vec4<u32>[blocks of 32 rows, chunks of 32 codes, 32]
//
// A workgroup computes 8 · ROWS columns of y for X_ROWS rows of x. Its threads form THREADS / 8 columns of eight: thread j
// of a column has rows j, 8 + j, … of w, a column every so many-th chunk along k. So 32 neighbouring threads read whole
// cache lines, and a chunk of x, which a column shares, is read once for ROWS rows of w. x lies in workgroup memory, SLAB
// chunks at a time, in the form that x_rows_*.wgsl multiplies with; chunks are followed by an empty vec4, so that columns
// meet different banks. Codes of the next chunk are on their way while one is multiplied, the first ones while x is
// staged, but asked for after x: they would hold it up.
// Past the end of k there are zeros in x, and the last chunk of w is repeated.
// Sums of columns meet in workgroup memory at the end, in a fixed order.
// The grid is (x, y, z): rows of w over x and y together (one dimension ends at 65535), rows of x and SPLIT_K parts of
// k over z.
//
// Shared: SLAB · X_CHUNK · 16 + THREADS · ROWS · X_ROWS · 4 bytes. Registers: about 5 · ROWS for codes and scales, twice,
// ROWS · X_ROWS for sums, 8 · X_ROWS for x, 30 besides. Features: none.
// Roundings on the longest path of a sum: BLOCK_SIZE for products, two a block, THREADS / 8 for columns.

@group(0) @binding(2) var<storage, read> w_codes: array<vec4<u32>>;

const COLUMNS = THREADS / 8u;
// Workgroups that share a block of rows.
const SHARES = 4u / ROWS;
// Pieces of four neighbours along k that a slab has of each row of x.
const SLAB_QUADS = SLAB * 8u;

var<workgroup> x_slab: array<vec4<f32>, SLAB * X_CHUNK>;
var<workgroup> column_sums: array<f32, THREADS * ROWS * X_ROWS>;

// Four neighbours along k of a row of x, zeros past the edges.
fn read_x(row: u32, quad: u32) -> vec4<f32> {
  let k4 = problem.k / 4u;
  if (row < problem.m && quad < k4) {
    return load_x4(row * k4 + quad);
  }
  return vec4<f32>();
}

// What a thread needs of its rows for a chunk.
struct Piece {
  codes: RowCodes,
  scales: ScaleWords,
}

fn load_piece(block: u32, first: u32, j: u32, chunk: u32) -> Piece {
  let at = min(chunk, chunks_per_row() - 1u);
  let index = (block * chunks_per_row() + at) * 32u + first * 8u + j;
  return Piece(load_codes(index), load_scale_words(block, at, j));
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

  let chunks = chunks_per_row();
  let slabs = (chunks + SLAB - 1u) / SLAB;
  let first_slab = slabs * split / SPLIT_K;
  let end_slab = slabs * (split + 1u) / SPLIT_K;

  var sums = RowSums();
  var next: Piece;
  for (var slab = first_slab; slab < end_slab; slab++) {
    let first_chunk = slab * SLAB;
    workgroupBarrier();
    let x0 = read_quad(first_row, first_chunk * 8u + thread);
    let x1 = read_quad(first_row, first_chunk * 8u + thread + THREADS);
    next = load_piece(block, first, j, first_chunk + column);
    put_quad(thread, x0);
    if (SLAB_QUADS > THREADS) {
      put_quad(thread + THREADS, x1);
    }
    for (var i = thread + 2u * THREADS; i < SLAB_QUADS; i += THREADS) {
      put_quad(i, read_quad(first_row, first_chunk * 8u + i));
    }
    workgroupBarrier();

    let here = min(SLAB, chunks - first_chunk);
    let steps = (here + COLUMNS - 1u) / COLUMNS;
    for (var step = 0u; step < steps; step++) {
      let piece = next;
      let slab_chunk = step * COLUMNS + column;
      next = load_piece(block, first, j, first_chunk + slab_chunk + COLUMNS);
      let x_at = slab_chunk * X_CHUNK;
      if (BLOCK_SIZE == 32u) {
        var products = RowProducts();
        products = add_word(products, piece.codes, 0u, x_at);
        products = add_word(products, piece.codes, 1u, x_at);
        products = add_word(products, piece.codes, 2u, x_at);
        products = add_word(products, piece.codes, 3u, x_at);
        sums = add_block(sums, products, row_scales(piece.scales, 0u, first));
      } else {
        var low = RowProducts();
        low = add_word(low, piece.codes, 0u, x_at);
        low = add_word(low, piece.codes, 1u, x_at);
        sums = add_block(sums, low, row_scales(piece.scales, 0u, first));
        var high = RowProducts();
        high = add_word(high, piece.codes, 2u, x_at);
        high = add_word(high, piece.codes, 3u, x_at);
        sums = add_block(sums, high, row_scales(piece.scales, 1u, first));
      }
    }
  }

  store_row_sums(column, j, sums);
  workgroupBarrier();
  for (var i = thread; i < 8u * ROWS * X_ROWS; i += THREADS) {
    var sum = 0.0;
    for (var c = 0u; c < COLUMNS; c++) {
      sum += column_sums[c * (8u * ROWS * X_ROWS) + i];
    }
    let row = first_row + i / (8u * ROWS);
    let col = 32u * block + 8u * first + i % (8u * ROWS);
    if (row < problem.m && col < problem.n) {
      epilogue(sum, row, col);
    }
  }
}
