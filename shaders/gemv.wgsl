// y[m, n] = x[m, k] · w[n, k]ᵀ for few rows of x: every weight is decoded where it is used, in f32.
//
// x        f32 or f16[m, k], read by load_x4
// w_codes  kernel order: vec4<u32>[blocks of 32 rows, chunks of 32 codes, 32]
//
// A workgroup of LANES · GROUPS threads computes GROUPS · ROWS columns of y for X_ROWS rows of x. The LANES threads of
// a group share its ROWS rows of w and split k between them, a chunk at a time, so that neighbouring lanes load
// neighbouring chunks of 16 bytes; a decoded chunk is used for X_ROWS rows of x. These lie in workgroup memory, SLAB
// values along k at a time; a chunk's eight vec4s are followed by an empty one, so that lanes meet different banks.
// Partial sums meet in `reduce_lanes` at the end.
// The grid is (x, y, z): columns over x and y together (one dimension ends at 65535), rows of x and SPLIT_K parts of
// the slabs over z.
//
// Shared: X_ROWS · SLAB · 4.5 bytes (+ reduce_lanes). Registers: about X_ROWS · ROWS · 2 + ROWS · 13 + 24.
// Features: those of reduce_lanes. Roundings on the longest path of a sum:
// ceil(k / BLOCK_SIZE / LANES) + log2(LANES) + BLOCK_SIZE + 8.
//
// Measured on an H200, mxfp4, µs, n = k = 4096 where not said. What it replaced, x read from memory for every four rows
// of w: m = 1 12.2, m = 4 31.8, m = 16 260 (tiles); this: 8.3, 15.1, 32.5. Tried: rows of w as arrays in loops: 10.4,
// 15.9, 58.6; sixteen lanes with m = 1: 10.0 against 7.6 (written out in full); eight rows of x with sixteen lanes,
// m = 16: 38.6; four lanes, m = 64: 109.6 against 93.6 for eight.

@group(0) @binding(2) var<storage, read> w_codes: array<vec4<u32>>;

const THREADS = LANES * GROUPS;
const SLAB_CHUNKS = SLAB / 32u;
// vec4s of workgroup memory for a chunk and for a row of x.
const CHUNK_STRIDE = 9u;
const ROW_STRIDE = SLAB_CHUNKS * CHUNK_STRIDE;

var<workgroup> x_slab: array<vec4<f32>, X_ROWS * ROW_STRIDE>;

// Brings values first..first + SLAB along k of X_ROWS rows of x, zeros past the edges.
fn stage_x(thread: u32, first_row: u32, first_chunk: u32) {
  let k4 = problem.k / 4u;
  workgroupBarrier();
  for (var i = thread; i < X_ROWS * SLAB / 4u; i += THREADS) {
    let r = i / (SLAB / 4u);
    let at = i % (SLAB / 4u);
    let k = first_chunk * 8u + at;
    let row = first_row + r;
    var value = vec4<f32>();
    if (row < problem.m && k < k4) {
      value = load_x4(row * k4 + k);
    }
    x_slab[r * ROW_STRIDE + (at / 8u) * CHUNK_STRIDE + at % 8u] = value;
  }
  workgroupBarrier();
}

fn weight_scale(row: u32, block: u32) -> f32 {
  return block_scale(row, block) * macro_scale(row, block);
}

// sum + w · x over eight values.
fn multiply8(w: array<vec4<f32>, 2>, x0: vec4<f32>, x1: vec4<f32>, sum: f32) -> f32 {
  var s = sum;
  s = w[0].x * x0.x + s;
  s = w[0].y * x0.y + s;
  s = w[0].z * x0.z + s;
  s = w[0].w * x0.w + s;
  s = w[1].x * x1.x + s;
  s = w[1].y * x1.y + s;
  s = w[1].z * x1.z + s;
  s = w[1].w * x1.w + s;
  return s;
}

var<private> sums: array<rows_f32, X_ROWS>;
var<private> products: array<rows_f32, X_ROWS>;

// Adds the products of word `i` of a chunk with X_ROWS rows of x.
fn add_word(codes: RowCodes, i: u32, slab_chunk: u32) {
  let w = decode_rows(codes, i);
  for (var m = 0u; m < X_ROWS; m++) {
    let at = m * ROW_STRIDE + slab_chunk * CHUNK_STRIDE + 2u * i;
    products[m] = multiply_rows(w, x_slab[at], x_slab[at + 1u], products[m]);
  }
}

// Scales the products of a block and adds them to the sums.
fn end_block(scales: rows_f32) {
  for (var m = 0u; m < X_ROWS; m++) {
    sums[m] += scales * (products[m] * DECODED_UNIT);
    products[m] = rows_f32();
  }
}

@compute @workgroup_size(THREADS)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let lane = thread % LANES;
  let first_col = ((workgroup.y * grid.x + workgroup.x) * GROUPS + thread / LANES) * ROWS;
  let first_row = workgroup.z / SPLIT_K * X_ROWS;
  let split = workgroup.z % SPLIT_K;
  part_of_k = split;
  let chunks = chunks_per_row();

  let slabs = (chunks + SLAB_CHUNKS - 1u) / SLAB_CHUNKS;
  for (var slab = slabs * split / SPLIT_K; slab < slabs * (split + 1u) / SPLIT_K; slab++) {
    stage_x(thread, first_row, slab * SLAB_CHUNKS);
    for (var step = 0u; step < SLAB_CHUNKS / LANES; step++) {
      let slab_chunk = step * LANES + lane;
      let chunk = slab * SLAB_CHUNKS + slab_chunk;
      if (chunk < chunks) {
        let codes = load_codes(first_col, chunk);
        if (BLOCK_SIZE == 32u) {
          let scales = load_scales(first_col, chunk);
          add_word(codes, 0u, slab_chunk);
          add_word(codes, 1u, slab_chunk);
          add_word(codes, 2u, slab_chunk);
          add_word(codes, 3u, slab_chunk);
          end_block(scales);
        } else {
          let low = load_scales(first_col, 2u * chunk);
          let high = load_scales(first_col, 2u * chunk + 1u);
          add_word(codes, 0u, slab_chunk);
          add_word(codes, 1u, slab_chunk);
          end_block(low);
          add_word(codes, 2u, slab_chunk);
          add_word(codes, 3u, slab_chunk);
          end_block(high);
        }
      }
    }
  }

  for (var m = 0u; m < X_ROWS; m++) {
    let total = reduce_lanes(widen(sums[m]), thread);
    if (lane == 0u && first_row + m < problem.m) {
      for (var r = 0u; r < ROWS; r++) {
        if (first_col + r < problem.n) {
          epilogue(total[r], first_row + m, first_col + r);
        }
      }
    }
  }
}
