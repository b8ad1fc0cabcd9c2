// y[m, n] = x[m, k] · w[n, k]ᵀ with tiles of both operands in workgroup memory as f16.
//
// x          f16, read by load_x of x_tiles.wgsl or x_tiles_rows.wgsl
// w_codes    kernel order: vec4<u32>[blocks of 32 rows, chunks of 32 codes, 32]
// w_row_max  the largest scale byte of each row of w, which its halves are relative to
//
// A workgroup computes TILE_M × TILE_N of y in steps of TILE_K along k: it copies its tile of x and decodes the weights of
// its columns, once: X_LOADS pieces of sixteen bytes and W_LOADS chunks a thread. What the next step needs is on its way
// while a step multiplies. Threads stand in groups of 32, four along m by eight along n; a thread computes THREAD_M × 8
// of y, rows four apart and columns eight apart. It reads eight halves along k of each of them at a time; rows in workgroup
// memory are followed by sixteen empty bytes, so that those of neighbours lie in different banks. Neighbours in pairs read
// the same columns, every other one of sixteen the same row: a GPU that merges such reads makes half as many.
// CHAIN = 1: products are f32, of halves that were brought to f32 (F32_PRODUCTS). CHAIN = 32: products of 32 values along k
// are added up as halves, over even and odd places, and these sums in f32 (F16_CHAINS).
// Sums need names, as arrays that loops index may end in local memory.
// The grid is (tiles of m, tiles of n, SPLIT_K parts of k).
//
// Shared: (TILE_M + TILE_N) · (2 · TILE_K + 16) bytes. Registers: THREAD_M · 8 for sums; for what is multiplied 5 ·
// (THREAD_M + 8), with chains 8 · 16 + 16; 4 · (X_LOADS + W_LOADS), about 30 besides.
// Features: shader-f16, with products that keep subnormals; the conversion of x takes subgroups.
// Error: halves as stated where they are made; f32 sums, k roundings; with chains sixteen f16 ones for each. Of normal data, k =
// 4096 and 14336, y is 63 dB of f64's with chains, 73 dB without.
//
// Measured on an H200, mxfp4, n = k = 4096, µs without the conversion, m = 512 and 2048, where gemm_tiled takes 401 and 1566:
// chains, 64 × 64 × 32 with 8 × 8 a thread 293 and 1157, 64 × 128 × 32 297 and 1181, 32 × 64 × 32 with 4 × 8 1276 at m = 2048;
// products in f32, 64 × 64 × 32 470 and 1847, 128 × 128 × 32 with 16 × 8 516 and 1769 (a conversion for each half that
// is read: 1.25 instructions a product).
// Tried with chains, 64 × 64 × 32: threads of a group row by row instead of interleaved 320 and 1277, and then chains of 8
// values 465 and 1838; chains of 16 356 and 1406; sums of even and odd places added as halves 1154; rows held and columns
// read one by one 1174; sums of a step as halves by name, so that fewer registers hold columns, 351 and 1385, its vec4s
// written out 1309; four columns at a time 1286. Steps of 64 along k took 1237 at best.

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
  let own_x = thread / 32u / GROUPS_N * GROUP_M + thread % 2u + 2u * (thread % 32u / 16u);
  let own_w = thread / 32u % GROUPS_N * GROUP_N + thread % 32u / 2u % 8u;

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

    // repeat f < F32_PRODUCTS
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
    // end repeat
    // repeat f < F16_CHAINS
    for (var part = 0u; part < TILE_K / CHAIN; part++) {
      // repeat v < 4
      // repeat j < 8
      let b$v_$j = w_tile[(own_w + 8u * $ju) * ROW + 4u * part + $vu];
      // end repeat
      // end repeat
      // repeat i < THREAD_M
      {
        // repeat v < 4
        let a$v = x_tile[(own_x + 4u * $iu) * ROW + 4u * part + $vu];
        // end repeat
        // repeat j < 8
        {
          var h = vec2<f16>();
          // repeat v < 4
          // repeat p < 4
          h = fma(bitcast<vec2<f16>>(a$v[$p]), bitcast<vec2<f16>>(b$v_$j[$p]), h);
          // end repeat
          // end repeat
          sum$i_$j += f32(h.x) + f32(h.y);
        }
        // end repeat
      }
      // end repeat
    }
    // end repeat
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
