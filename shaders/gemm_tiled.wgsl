// y[m, n] = x[m, k] · w[n, k]ᵀ with tiles of both operands in workgroup memory, all in f32.
//
// x        f32 or f16[m, k], read by load_x4
// w_codes  kernel order, eight codes to a word: u32[blocks of 32 rows, chunks of 32 codes, 32, 4]
//
// A workgroup computes TILE_M × TILE_N of y in steps of TILE_K along k. Its threads stand in groups of 32, four along m
// by eight along n; a thread computes THREAD_M × 8 of y: rows in fours of neighbours, sixteen apart, columns eight
// apart, as the rows of w stand in kernel order. So a thread reads both tiles along m and n as vec4, and neighbours
// read the same vec4 or the next.
// In each step a thread brings patches of four rows: 4 × 4 values of x, half of the 4 × 8 codes of a word each of w, of
// which it decodes and scales its half. It writes them transposed; what the next step needs is on its way while a step
// multiplies. vec4s of x change places inside eight of them (put_x), so that threads that write neighbours along k meet
// different banks.
// All is written out for sixteen values along k: sums need names, as arrays that loops index may end in local memory,
// and indices built of the thread's number and constants need no check in every access (Dawn proves them to be inside;
// in loops, of a counter that grows by one).
// The grid is (tiles of m, tiles of n, SPLIT_K parts of k).
//
// Shared: (TILE_M + TILE_N) · TILE_K · 4 bytes. Registers: THREAD_M · 8 for sums, THREAD_M + 8 for what is multiplied,
// 16 · X_PATCHES + 6 · W_PATCHES for the next step, about 20 besides.
// Features: none. Roundings on the longest path of a sum: k + 5.
//
// Measured on an H200, mxfp4, n = k = 4096, µs, m = 512 and 2048; a draft with sizes as constants: 64 × 64 × 16 with 8
// × 8 a thread 394 and 1557, 128 × 64 × 32 389 and 1542, 128 × 128 × 16 402 and 1603, with 16 × 8 703 and 1442. What it
// replaced, sums in an array and 8 × 8 a thread, 128 × 128 × 16: 862 and 2442. k in parts, m = 64, 128, 256: 64 × 64, eight
// parts 63, 118, 222; 128 × 64, four 108, 112, 217; 128 × 128, eight 109, 111, 215; in one piece 229, 233, 232.
// Tried at m = 2048, 128 × 128 × 16 and 8 × 8: vec4s along k instead of along m and n 1686; two tiles in turn and one
// barrier a step 1616; threads of a group row by row instead of interleaved 1635. Nothing brought in but once 1350, and
// operands read once 1083: reading the tiles is what is left.

@group(0) @binding(2) var<storage, read> w_codes: array<u32>;

// Columns of a thread, and of 32 threads.
const THREAD_N = 8u;
const GROUP_N = 8u * THREAD_N;
const THREADS = TILE_M / THREAD_M * (TILE_N / THREAD_N);
const GROUPS_N = TILE_N / GROUP_N;
// vec4s of a tile along m and n, pieces of four values along k.
const TILE_M4 = TILE_M / 4u;
const TILE_N4 = TILE_N / 4u;
const QUADS = TILE_K / 4u;
// Patches that a thread brings in each step: one or two of each operand.
const X_PATCHES = TILE_M4 * QUADS / THREADS;
const W_PATCHES = TILE_N4 * QUADS / THREADS;
// From one value along k to those after it.
const M1 = TILE_M4;
const M2 = 2u * TILE_M4;
const M3 = 3u * TILE_M4;
const N1 = TILE_N4;
const N2 = 2u * TILE_N4;
const N3 = 3u * TILE_N4;

var<workgroup> x_tile: array<vec4<f32>, TILE_K * TILE_M4>;
var<workgroup> w_tile: array<vec4<f32>, TILE_K * TILE_N4>;

// Four values along k of four rows.
struct Patch {
  a: vec4<f32>,
  b: vec4<f32>,
  c: vec4<f32>,
  d: vec4<f32>,
}

// Eight codes of each of the rows j, 8 + j, 16 + j and 24 + j of a block, and a byte of scales for each.
struct WeightPatch {
  codes: vec4<u32>,
  scales: u32,
  macros: u32,
}

// Eight rows a..h of four columns, eight apart (0), and of the four after them (1).
struct Sums {
  a0: vec4<f32>,
  a1: vec4<f32>,
  b0: vec4<f32>,
  b1: vec4<f32>,
  c0: vec4<f32>,
  c1: vec4<f32>,
  d0: vec4<f32>,
  d1: vec4<f32>,
  e0: vec4<f32>,
  e1: vec4<f32>,
  f0: vec4<f32>,
  f1: vec4<f32>,
  g0: vec4<f32>,
  g1: vec4<f32>,
  h0: vec4<f32>,
  h1: vec4<f32>,
}

// Patch `place` of the x tile of a step: neighbouring threads take neighbours along k, then along m. Past the edge of m
// the last row is repeated, past that of k there are zeros.
fn load_x(place: u32, first_row: u32, step: u32) -> Patch {
  let quad = step * QUADS + place % 4u + 4u * (place / 8u % (QUADS / 4u));
  let row = first_row + 4u * (place / 4u % 2u + 2u * (place / (2u * QUADS)));
  let k4 = problem.k / 4u;
  // k is a multiple of sixteen.
  if (TILE_K > 16u && quad >= k4) {
    return Patch();
  }
  let last = problem.m - 1u;
  return Patch(
    load_x4(min(row, last) * k4 + quad),
    load_x4(min(row + 1u, last) * k4 + quad),
    load_x4(min(row + 2u, last) * k4 + quad),
    load_x4(min(row + 3u, last) * k4 + quad),
  );
}

// Writes a patch of x, transposed: vec4 v of a row of the tile stands at v ^ 0, 2, 4 or 6 by where it is along k.
fn put_x(place: u32, x: Patch) {
  let quad = place % 4u + 4u * (place / 8u % (QUADS / 4u));
  let vector = place / 4u % 2u + 2u * (place / (2u * QUADS));
  let at = 4u * quad * TILE_M4 + (vector ^ (2u * (quad % 4u))) % TILE_M4;
  x_tile[at] = vec4<f32>(x.a.x, x.b.x, x.c.x, x.d.x);
  x_tile[at + M1] = vec4<f32>(x.a.y, x.b.y, x.c.y, x.d.y);
  x_tile[at + M2] = vec4<f32>(x.a.z, x.b.z, x.c.z, x.d.z);
  x_tile[at + M3] = vec4<f32>(x.a.w, x.b.w, x.c.w, x.d.w);
}

// Patch `place` of the w tile of a step: row j of a block, word, block, half of the word. Past the edge of n the last
// block is repeated; chunks are filled up with zeros.
fn load_w(place: u32, first_block: u32, step: u32) -> WeightPatch {
  let j = place % 8u;
  let k = step * TILE_K + 8u * (place / 8u % (QUADS / 2u));
  let block = min(first_block + place / (4u * QUADS) % (TILE_N / 32u), (problem.n - 1u) / 32u);
  let chunk = k / 32u;
  let at = chunk_index(block * 32u + j, chunk) * 4u + k / 8u % 4u;
  let width = chunks_per_row() * (32u / BLOCK_SIZE);
  return WeightPatch(
    vec4<u32>(w_codes[at], w_codes[at + 32u], w_codes[at + 64u], w_codes[at + 96u]),
    w_scales[byte_word(block * 32u + j, k / BLOCK_SIZE, width)],
    macro_word(block, chunk, j),
  );
}

// Values 0..3 or, in the upper half, 4..7 of the words of four rows, in units of DECODED_UNIT.
fn decode(codes: vec4<u32>, upper: bool) -> Patch {
  if (upper) {
    return Patch(dequant8(codes.x)[1], dequant8(codes.y)[1], dequant8(codes.z)[1], dequant8(codes.w)[1]);
  }
  return Patch(dequant8(codes.x)[0], dequant8(codes.y)[0], dequant8(codes.z)[0], dequant8(codes.w)[0]);
}

fn scale_of(w: WeightPatch, i: u32) -> f32 {
  return scale_value((w.scales >> (8u * i)) & 0xFFu) * macro_factor(w.macros, i);
}

// Decodes a thread's half of a patch of w and writes it, transposed.
fn put_w(place: u32, p: WeightPatch) {
  let j = place % 8u;
  let word = place / 8u % (QUADS / 2u);
  let block = place / (4u * QUADS) % (TILE_N / 32u);
  let half = place / (TILE_N4 * QUADS / 2u) % 2u;
  let w = decode(p.codes, half == 1u);
  let scale = vec4<f32>(scale_of(p, 0u), scale_of(p, 1u), scale_of(p, 2u), scale_of(p, 3u));
  let at = (8u * word + 4u * half) * TILE_N4 + 8u * block + j;
  // Two factors, as their product may be out of range.
  w_tile[at] = vec4<f32>(w.a.x, w.b.x, w.c.x, w.d.x) * DECODED_UNIT * scale;
  w_tile[at + N1] = vec4<f32>(w.a.y, w.b.y, w.c.y, w.d.y) * DECODED_UNIT * scale;
  w_tile[at + N2] = vec4<f32>(w.a.z, w.b.z, w.c.z, w.d.z) * DECODED_UNIT * scale;
  w_tile[at + N3] = vec4<f32>(w.a.w, w.b.w, w.c.w, w.d.w) * DECODED_UNIT * scale;
}

// Adds the products of one value along k of eight rows and eight columns.
fn multiply(s: Sums, x0: vec4<f32>, x1: vec4<f32>, w0: vec4<f32>, w1: vec4<f32>) -> Sums {
  return Sums(
    fma(vec4<f32>(x0.x), w0, s.a0),
    fma(vec4<f32>(x0.x), w1, s.a1),
    fma(vec4<f32>(x0.y), w0, s.b0),
    fma(vec4<f32>(x0.y), w1, s.b1),
    fma(vec4<f32>(x0.z), w0, s.c0),
    fma(vec4<f32>(x0.z), w1, s.c1),
    fma(vec4<f32>(x0.w), w0, s.d0),
    fma(vec4<f32>(x0.w), w1, s.d1),
    fma(vec4<f32>(x1.x), w0, s.e0),
    fma(vec4<f32>(x1.x), w1, s.e1),
    fma(vec4<f32>(x1.y), w0, s.f0),
    fma(vec4<f32>(x1.y), w1, s.f1),
    fma(vec4<f32>(x1.z), w0, s.g0),
    fma(vec4<f32>(x1.z), w1, s.g1),
    fma(vec4<f32>(x1.w), w0, s.h0),
    fma(vec4<f32>(x1.w), w1, s.h1),
  );
}

// A row's sums of columns col, col + 8, … and, behind them, as many more.
fn store_row(sums0: vec4<f32>, sums1: vec4<f32>, row: u32, col: u32) {
  if (row < problem.m) {
    store(sums0.x, row, col);
    store(sums0.y, row, col + 8u);
    store(sums0.z, row, col + 16u);
    store(sums0.w, row, col + 24u);
    store(sums1.x, row, col + 32u);
    store(sums1.y, row, col + 40u);
    store(sums1.z, row, col + 48u);
    store(sums1.w, row, col + 56u);
  }
}

fn store(sum: f32, row: u32, col: u32) {
  if (col < problem.n) {
    epilogue(sum, row, col);
  }
}

fn store_sums(s: Sums, row: u32, col: u32) {
  store_row(s.a0, s.a1, row, col);
  store_row(s.b0, s.b1, row + 1u, col);
  store_row(s.c0, s.c1, row + 2u, col);
  store_row(s.d0, s.d1, row + 3u, col);
  store_row(s.e0, s.e1, row + 16u, col);
  store_row(s.f0, s.f1, row + 17u, col);
  store_row(s.g0, s.g1, row + 18u, col);
  store_row(s.h0, s.h1, row + 19u, col);
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let first_row = workgroup.x * TILE_M;
  let first_col = workgroup.y * TILE_N;
  let lane_m = thread % 2u + 2u * (thread % 32u / 16u);
  let lane_n = thread % 32u / 2u % 8u;
  let group_m = thread / 32u / GROUPS_N;
  let group_n = thread / 32u % GROUPS_N;

  // Indices of the thread's first vec4s in the tiles. Those of x change places between quads along k; see put_x.
  let x_even = group_m * THREAD_M + lane_m;
  let x_odd = group_m * THREAD_M + (lane_m + 2u) % 4u;
  let w_first = group_n * (GROUP_N / 4u) + lane_n;

  let steps = (problem.k + TILE_K - 1u) / TILE_K;
  let first_step = steps * workgroup.z / SPLIT_K;
  let end_step = steps * (workgroup.z + 1u) / SPLIT_K;
  part_of_k = workgroup.z;
  let first_block = first_col / 32u;
  let begin = min(first_step, steps - 1u);
  var next_x0 = load_x(thread, first_row, begin);
  var next_x1 = Patch();
  var next_w0 = load_w(thread, first_block, begin);
  var next_w1 = WeightPatch();
  if (X_PATCHES == 2u) {
    next_x1 = load_x(thread + THREADS, first_row, begin);
  }
  if (W_PATCHES == 2u) {
    next_w1 = load_w(thread + THREADS, first_block, begin);
  }

  var lower = Sums();
  var upper = Sums();
  for (var step = first_step; step < end_step; step++) {
    put_x(thread, next_x0);
    put_w(thread, next_w0);
    if (X_PATCHES == 2u) {
      put_x(thread + THREADS, next_x1);
    }
    if (W_PATCHES == 2u) {
      put_w(thread + THREADS, next_w1);
    }
    workgroupBarrier();

    let next = min(step + 1u, steps - 1u);
    next_x0 = load_x(thread, first_row, next);
    next_w0 = load_w(thread, first_block, next);
    if (X_PATCHES == 2u) {
      next_x1 = load_x(thread + THREADS, first_row, next);
    }
    if (W_PATCHES == 2u) {
      next_w1 = load_w(thread + THREADS, first_block, next);
    }

    for (var part = 0u; part < TILE_K / 16u; part++) {
      let k = 16u * part;
      let even = k * TILE_M4 + x_even;
      let odd = k * TILE_M4 + x_odd;
      let w_at = k * TILE_N4 + w_first;
      {
        let x0 = even;
        let x1 = even + 4u;
        let w0 = w_at;
        let w1 = w_at + 8u;
        lower = multiply(lower, x_tile[x0], x_tile[x1], w_tile[w0], w_tile[w1]);
        if (THREAD_M == 16u) {
          upper = multiply(upper, x_tile[x0 + 8u], x_tile[x1 + 8u], w_tile[w0], w_tile[w1]);
        }
        lower = multiply(lower, x_tile[x0 + M1], x_tile[x1 + M1], w_tile[w0 + N1], w_tile[w1 + N1]);
        if (THREAD_M == 16u) {
          upper = multiply(upper, x_tile[x0 + 8u + M1], x_tile[x1 + 8u + M1], w_tile[w0 + N1], w_tile[w1 + N1]);
        }
        lower = multiply(lower, x_tile[x0 + M2], x_tile[x1 + M2], w_tile[w0 + N2], w_tile[w1 + N2]);
        if (THREAD_M == 16u) {
          upper = multiply(upper, x_tile[x0 + 8u + M2], x_tile[x1 + 8u + M2], w_tile[w0 + N2], w_tile[w1 + N2]);
        }
        lower = multiply(lower, x_tile[x0 + M3], x_tile[x1 + M3], w_tile[w0 + N3], w_tile[w1 + N3]);
        if (THREAD_M == 16u) {
          upper = multiply(upper, x_tile[x0 + 8u + M3], x_tile[x1 + 8u + M3], w_tile[w0 + N3], w_tile[w1 + N3]);
        }
      }
      {
        let x0 = odd + 4u * TILE_M4;
        let x1 = odd + 4u + 4u * TILE_M4;
        let w0 = w_at + 4u * TILE_N4;
        let w1 = w_at + 8u + 4u * TILE_N4;
        lower = multiply(lower, x_tile[x0], x_tile[x1], w_tile[w0], w_tile[w1]);
        if (THREAD_M == 16u) {
          upper = multiply(upper, x_tile[x0 + 8u], x_tile[x1 + 8u], w_tile[w0], w_tile[w1]);
        }
        lower = multiply(lower, x_tile[x0 + M1], x_tile[x1 + M1], w_tile[w0 + N1], w_tile[w1 + N1]);
        if (THREAD_M == 16u) {
          upper = multiply(upper, x_tile[x0 + 8u + M1], x_tile[x1 + 8u + M1], w_tile[w0 + N1], w_tile[w1 + N1]);
        }
        lower = multiply(lower, x_tile[x0 + M2], x_tile[x1 + M2], w_tile[w0 + N2], w_tile[w1 + N2]);
        if (THREAD_M == 16u) {
          upper = multiply(upper, x_tile[x0 + 8u + M2], x_tile[x1 + 8u + M2], w_tile[w0 + N2], w_tile[w1 + N2]);
        }
        lower = multiply(lower, x_tile[x0 + M3], x_tile[x1 + M3], w_tile[w0 + N3], w_tile[w1 + N3]);
        if (THREAD_M == 16u) {
          upper = multiply(upper, x_tile[x0 + 8u + M3], x_tile[x1 + 8u + M3], w_tile[w0 + N3], w_tile[w1 + N3]);
        }
      }
      {
        let x0 = even + 4u + 8u * TILE_M4;
        let x1 = even + 8u * TILE_M4;
        let w0 = w_at + 8u * TILE_N4;
        let w1 = w_at + 8u + 8u * TILE_N4;
        lower = multiply(lower, x_tile[x0], x_tile[x1], w_tile[w0], w_tile[w1]);
        if (THREAD_M == 16u) {
          upper = multiply(upper, x_tile[x0 + 8u], x_tile[x1 + 8u], w_tile[w0], w_tile[w1]);
        }
        lower = multiply(lower, x_tile[x0 + M1], x_tile[x1 + M1], w_tile[w0 + N1], w_tile[w1 + N1]);
        if (THREAD_M == 16u) {
          upper = multiply(upper, x_tile[x0 + 8u + M1], x_tile[x1 + 8u + M1], w_tile[w0 + N1], w_tile[w1 + N1]);
        }
        lower = multiply(lower, x_tile[x0 + M2], x_tile[x1 + M2], w_tile[w0 + N2], w_tile[w1 + N2]);
        if (THREAD_M == 16u) {
          upper = multiply(upper, x_tile[x0 + 8u + M2], x_tile[x1 + 8u + M2], w_tile[w0 + N2], w_tile[w1 + N2]);
        }
        lower = multiply(lower, x_tile[x0 + M3], x_tile[x1 + M3], w_tile[w0 + N3], w_tile[w1 + N3]);
        if (THREAD_M == 16u) {
          upper = multiply(upper, x_tile[x0 + 8u + M3], x_tile[x1 + 8u + M3], w_tile[w0 + N3], w_tile[w1 + N3]);
        }
      }
      {
        let x0 = odd + 4u + 12u * TILE_M4;
        let x1 = odd + 12u * TILE_M4;
        let w0 = w_at + 12u * TILE_N4;
        let w1 = w_at + 8u + 12u * TILE_N4;
        lower = multiply(lower, x_tile[x0], x_tile[x1], w_tile[w0], w_tile[w1]);
        if (THREAD_M == 16u) {
          upper = multiply(upper, x_tile[x0 + 8u], x_tile[x1 + 8u], w_tile[w0], w_tile[w1]);
        }
        lower = multiply(lower, x_tile[x0 + M1], x_tile[x1 + M1], w_tile[w0 + N1], w_tile[w1 + N1]);
        if (THREAD_M == 16u) {
          upper = multiply(upper, x_tile[x0 + 8u + M1], x_tile[x1 + 8u + M1], w_tile[w0 + N1], w_tile[w1 + N1]);
        }
        lower = multiply(lower, x_tile[x0 + M2], x_tile[x1 + M2], w_tile[w0 + N2], w_tile[w1 + N2]);
        if (THREAD_M == 16u) {
          upper = multiply(upper, x_tile[x0 + 8u + M2], x_tile[x1 + 8u + M2], w_tile[w0 + N2], w_tile[w1 + N2]);
        }
        lower = multiply(lower, x_tile[x0 + M3], x_tile[x1 + M3], w_tile[w0 + N3], w_tile[w1 + N3]);
        if (THREAD_M == 16u) {
          upper = multiply(upper, x_tile[x0 + 8u + M3], x_tile[x1 + 8u + M3], w_tile[w0 + N3], w_tile[w1 + N3]);
        }
      }
    }
    workgroupBarrier();
  }

  let row = first_row + 4u * (group_m * THREAD_M + lane_m);
  let col = first_col + group_n * GROUP_N + lane_n;
  store_sums(lower, row, col);
  if (THREAD_M == 16u) {
    store_sums(upper, row + 32u, col);
  }
}
