// y[m, n] = x[m, k] · w[n, k]ᵀ with tiles of both operands in workgroup memory as f16, multiplied and added up in f32.
//
// x          f16, read by load_x of x_tiles.wgsl or x_tiles_rows.wgsl
// w_codes    kernel order: vec4<u32>[blocks of 32 rows, chunks of 32 codes, 32]
// w_row_max  the largest scale byte of each row of w, which its halves are relative to
//
// A workgroup computes TILE_M × TILE_N of y in steps of TILE_K along k: it copies its tile of x and decodes the weights of
// its columns, once: X_LOADS pieces of sixteen bytes and W_LOADS chunks a thread. What the next step needs is on its way
// while a step multiplies. Threads stand in groups of 32, four along m by eight along n; a thread computes THREAD_M × 8
// of y, rows four apart and columns eight apart. It reads eight halves along k of each of them at a time; rows in workgroup
// memory are followed by sixteen empty bytes, so that those of neighbours lie in different banks.
// Sums need names, as arrays that loops index may end in local memory.
// The grid is (tiles of m, tiles of n, SPLIT_K parts of k).
//
// Shared: (TILE_M + TILE_N) · (2 · TILE_K + 16) bytes. Registers: THREAD_M · 8 for sums, 5 · (THREAD_M + 8) for what is
// multiplied, 4 · (X_LOADS + W_LOADS), about 30 besides.
// Features: shader-f16, with products that keep subnormals; the conversion of f32 x takes subgroups.
// Error: halves as stated where they are made, f32 sums: k roundings.
//
// Not measured on a GPU yet.

const THREAD_N = 8u;
const GROUP_M = 4u * THREAD_M;
const GROUP_N = 8u * THREAD_N;
const GROUPS_N = TILE_N / GROUP_N;
const THREADS = TILE_M / THREAD_M * (TILE_N / THREAD_N);
const STEPS = (K + TILE_K - 1u) / TILE_K;
const SPLIT_STEPS = (STEPS + SPLIT_K - 1u) / SPLIT_K;
// Pieces of sixteen bytes that a row has in a step, and a tile of x.
const STEP_VECTORS = TILE_K / 8u;
const TILE_VECTORS = TILE_M * STEP_VECTORS;
const ROW = STEP_VECTORS + 1u;

var<workgroup> x_tile: array<vec4<u32>, TILE_M * ROW>;
var<workgroup> w_tile: array<vec4<u32>, TILE_N * ROW>;

// Writes a piece of a row of x.
fn tile_put(row: u32, vector: u32, halves: vec4<u32>) {
  x_tile[row % TILE_M * ROW + vector % STEP_VECTORS] = halves;
}

// Writes a chunk of a row of w, which is behind those of x.
fn tile_put4(row: u32, chunk: u32, a: vec4<u32>, b: vec4<u32>, c: vec4<u32>, d: vec4<u32>) {
  let at = (row - TILE_M) % TILE_N * ROW + chunk % STEP_CHUNKS * 4u;
  w_tile[at] = a;
  w_tile[at + 1u] = b;
  w_tile[at + 2u] = c;
  w_tile[at + 3u] = d;
}

fn store(sum: f32, x_scale: f32, largest: u32, row: u32, col: u32) {
  if (col < problem.n) {
    epilogue(finish_sum(bitcast<u32>(sum), x_scale, largest), row, col);
  }
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let tile_m = workgroup.x;
  let first_col = workgroup.y * TILE_N;
  part_of_k = workgroup.z;
  let first_step = workgroup.z * SPLIT_STEPS;

  // The thread's first row of x and of w in the tiles.
  let own_x = thread / 32u / GROUPS_N * GROUP_M + thread % 32u / 8u;
  let own_w = thread / 32u % GROUPS_N * GROUP_N + thread % 8u;

  let begin = min(first_step, STEPS - 1u);
  // repeat l < X_LOADS
  var x$l = load_x(begin, tile_m, thread + $lu * THREADS);
  // end repeat
  // repeat l < W_LOADS
  let row$l = first_col + w_row(thread) + $lu * LOAD_ROWS;
  let value$l = row_value(row_max_byte(row$l));
  var w$l = load_w(begin, row$l, thread);
  // end repeat

  // repeat i < THREAD_M
  // repeat j < 8
  var sum$i_$j = 0.0;
  // end repeat
  // end repeat
  for (var s = 0u; s < SPLIT_STEPS; s++) {
    let step = first_step + s;
    // Where it can be, the number of rounds is a constant.
    if (SPLIT_STEPS * SPLIT_K != STEPS && step >= STEPS) {
      break;
    }
    // repeat l < X_LOADS
    put_x(thread + $lu * THREADS, x$l);
    // end repeat
    // repeat l < W_LOADS
    put_w($lu, thread, w$l, value$l);
    // end repeat
    workgroupBarrier();

    let next = min(step + 1u, STEPS - 1u);
    // repeat l < X_LOADS
    x$l = load_x(next, tile_m, thread + $lu * THREADS);
    // end repeat
    // repeat l < W_LOADS
    w$l = load_w(next, row$l, thread);
    // end repeat

    for (var v = 0u; v < STEP_VECTORS; v++) {
      // repeat j < 8
      let b$j = w_tile[(own_w + 8u * $ju) * ROW + v];
      // end repeat
      // repeat i < THREAD_M
      let a$i = x_tile[(own_x + 4u * $iu) * ROW + v];
      // end repeat
      // Two values along k at a time.
      // repeat p < 4
      {
        // repeat j < 8
        let column$j = vec2<f32>(bitcast<vec2<f16>>(b$j[$p]));
        // end repeat
        // repeat i < THREAD_M
        {
          let row = vec2<f32>(bitcast<vec2<f16>>(a$i[$p]));
          // repeat j < 8
          sum$i_$j = fma(row.y, column$j.y, fma(row.x, column$j.x, sum$i_$j));
          // end repeat
        }
        // end repeat
      }
      // end repeat
    }
    workgroupBarrier();
  }

  let col = first_col + own_w;
  // repeat j < 8
  let largest$j = row_max_byte(col + 8u * $ju);
  // end repeat
  // repeat i < THREAD_M
  {
    let row = tile_m * TILE_M + own_x + 4u * $iu;
    if (row < problem.m) {
      let x_scale = x_scale_of(row);
      // repeat j < 8
      store(sum$i_$j, x_scale, largest$j, row, col + 8u * $ju);
      // end repeat
    }
  }
  // end repeat
}
