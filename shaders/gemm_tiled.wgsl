// y[m, n] = x[m, k] · w[n, k]ᵀ with tiles of both operands in workgroup memory, all in f32.
//
// x        f32 or f16[m, k], read by load_x4
// w_codes  kernel order, eight codes to a word: u32[blocks of 32 rows, chunks of 32 codes, 32, 4]
//
// A workgroup computes TILE_M × TILE_N of y in steps of TILE_K along k; a thread computes THREAD_M × THREAD_N of it.
// Each step, threads take patches of four rows: 4 × 4 values of x, 4 × 8 codes of w (decoded and scaled here, once),
// and write them transposed, so that the inner loop reads both tiles along m and n as vec4. A thread's vec4s lie
// TILE / (THREAD / 4) apart: neighbouring threads read neighbouring vec4s.
// Past the edges of m, n and k the tiles are filled with zeros.
//
// Shared: (TILE_M + TILE_N) · TILE_K · 4 bytes. Registers: about THREAD_M · THREAD_N + THREAD_M + THREAD_N + 16.
// Features: none. Roundings on the longest path of a sum: k + 5.

@group(0) @binding(2) var<storage, read> w_codes: array<u32>;

const THREADS_X = TILE_N / THREAD_N;
const THREADS_Y = TILE_M / THREAD_M;
const THREADS = THREADS_X * THREADS_Y;
// vec4s of a thread's rows and columns, and of the tiles' rows and columns.
const M4 = THREAD_M / 4u;
const N4 = THREAD_N / 4u;
const TILE_M4 = TILE_M / 4u;
const TILE_N4 = TILE_N / 4u;

var<workgroup> x_tile: array<vec4<f32>, TILE_K * TILE_M4>;
var<workgroup> w_tile: array<vec4<f32>, TILE_K * TILE_N4>;

// Row `row` of x, values k..k+3.
fn load_x(row: u32, k: u32) -> vec4<f32> {
  if (row >= problem.m || k >= problem.k) {
    return vec4<f32>();
  }
  return load_x4(row * (problem.k / 4u) + k / 4u);
}

// Row `row` of w, values k..k+7, without the tensor's scale.
fn load_w(row: u32, k: u32) -> array<vec4<f32>, 2> {
  if (row >= problem.n || k >= problem.k) {
    return array<vec4<f32>, 2>();
  }
  let block = k / BLOCK_SIZE;
  let scale = block_scale(row, block) * macro_scale(row, block);
  let w = dequant8(w_codes[chunk_index(row, k / 32u) * 4u + k / 8u % 4u]);
  // Two factors, as their product may be out of range.
  return array<vec4<f32>, 2>(w[0] * DECODED_UNIT * scale, w[1] * DECODED_UNIT * scale);
}

fn fill_x_tile(thread: u32, first_row: u32, first_k: u32) {
  const PATCHES = TILE_M4 * (TILE_K / 4u);
  for (var p = thread; p < PATCHES; p += THREADS) {
    let row4 = p % TILE_M4;
    let k = (p / TILE_M4) * 4u;
    let row = first_row + row4 * 4u;
    let columns = transpose(mat4x4<f32>(
      load_x(row, first_k + k),
      load_x(row + 1u, first_k + k),
      load_x(row + 2u, first_k + k),
      load_x(row + 3u, first_k + k),
    ));
    for (var i = 0u; i < 4u; i++) {
      x_tile[(k + i) * TILE_M4 + row4] = columns[i];
    }
  }
}

fn fill_w_tile(thread: u32, first_row: u32, first_k: u32) {
  const PATCHES = TILE_N4 * (TILE_K / 8u);
  for (var p = thread; p < PATCHES; p += THREADS) {
    let row4 = p % TILE_N4;
    let k = (p / TILE_N4) * 8u;
    let row = first_row + row4 * 4u;
    let a = load_w(row, first_k + k);
    let b = load_w(row + 1u, first_k + k);
    let c = load_w(row + 2u, first_k + k);
    let d = load_w(row + 3u, first_k + k);
    for (var half = 0u; half < 2u; half++) {
      let columns = transpose(mat4x4<f32>(a[half], b[half], c[half], d[half]));
      for (var i = 0u; i < 4u; i++) {
        w_tile[(k + half * 4u + i) * TILE_N4 + row4] = columns[i];
      }
    }
  }
}

@compute @workgroup_size(THREADS_X, THREADS_Y)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(local_invocation_id) local: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let first_row = workgroup.y * TILE_M;
  let first_col = workgroup.x * TILE_N;

  var sums: array<vec4<f32>, THREAD_M * N4>;
  let steps = (problem.k + TILE_K - 1u) / TILE_K;
  for (var step = 0u; step < steps; step++) {
    workgroupBarrier();
    fill_x_tile(thread, first_row, step * TILE_K);
    fill_w_tile(thread, first_col, step * TILE_K);
    workgroupBarrier();
    for (var k = 0u; k < TILE_K; k++) {
      var b: array<vec4<f32>, N4>;
      for (var j = 0u; j < N4; j++) {
        b[j] = w_tile[k * TILE_N4 + j * THREADS_X + local.x];
      }
      for (var i = 0u; i < M4; i++) {
        let a = x_tile[k * TILE_M4 + i * THREADS_Y + local.y];
        for (var j = 0u; j < N4; j++) {
          sums[(4u * i) * N4 + j] += a.x * b[j];
          sums[(4u * i + 1u) * N4 + j] += a.y * b[j];
          sums[(4u * i + 2u) * N4 + j] += a.z * b[j];
          sums[(4u * i + 3u) * N4 + j] += a.w * b[j];
        }
      }
    }
  }

  for (var i = 0u; i < THREAD_M; i++) {
    let row = first_row + ((i / 4u) * THREADS_Y + local.y) * 4u + i % 4u;
    if (row < problem.m) {
      for (var j = 0u; j < N4; j++) {
        let col = first_col + (j * THREADS_X + local.x) * 4u;
        for (var c = 0u; c < 4u; c++) {
          if (col + c < problem.n) {
            epilogue(sums[i * N4 + j][c], row, col + c);
          }
        }
      }
    }
  }
}
