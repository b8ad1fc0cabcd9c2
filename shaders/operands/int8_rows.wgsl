// x to int8, with one scale for each row, in tiles.
//
// x       f32 or f16[m, k], read by load_x4
// words   u32[rows / TILE_M, cols / TILE_K, TILE_M, TILE_K / 4], eight values as int8_words.wgsl orders them
// scales  f32[m]: what a row's integers have to be multiplied by
// rows and cols are m and k filled up to whole tiles, k with zeros. Rows past m are not written: their products are not
// stored.
//
// Integers are the nearest ones to x · (127 / max|x|); with max|x| = 127 · 2^e both scale and integers are exact. Rows
// whose largest value is below 2^-112 are zero, so that both divisions stay in the range of f32; where there is NaN or
// Inf, the scale is NaN and integers are 0.
//
// A workgroup takes a row, a thread eight values at a time (row_values.wgsl).
// Shared: 4 bytes. Features: subgroups.

struct Conversion {
  m: u32,
  k: u32,
  cols: u32,
}

@group(0) @binding(2) var<storage, read_write> words: array<vec2<u32>>;
// As bits, so that NaN passes.
@group(0) @binding(3) var<storage, read_write> scales: array<u32>;

const NAN_BITS = 0x7FC00000u;
// Pairs of words that a tile has of each row.
const STEP = TILE_K / 8u;

// Stores values 8 · i and on of a row, in memory that is `cols8` eights wide.
fn put8(row: u32, i: u32, cols8: u32, value: Eight, factor: f32, bad: bool) {
  if (i >= cols8) {
    return;
  }
  var pair = vec2<u32>();
  if (!bad) {
    pair = rounded8(value.low, value.high, factor);
  }
  words[((row / TILE_M * (cols8 / STEP) + i / STEP) * TILE_M + row % TILE_M) * STEP + i % STEP] = pair;
}

@compute @workgroup_size(WORKGROUP)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let row = workgroup.y * grid.x + workgroup.x;
  if (row >= conversion.m) {
    return;
  }
  hold_row(row, thread);
  let largest = largest_of_row();
  var factor = 0.0;
  var scale = 0u;
  let bad = largest >= 0x7F800000u;
  if (bad) {
    scale = NAN_BITS;
  } else if (largest >= 0x07800000u) {
    if ((largest & 0x007FFFFFu) == 0x007E0000u) {
      // 127 · 2^e, where divisions need not be exact.
      let exponent = (largest >> 23u) - 6u;
      factor = bitcast<f32>((254u - exponent) << 23u);
      scale = exponent << 23u;
    } else {
      factor = 127.0 / bitcast<f32>(largest);
      scale = bitcast<u32>(bitcast<f32>(largest) / 127.0);
    }
  }
  if (thread == 0u) {
    scales[row] = scale;
  }
  // repeat h < HELD
  put8(row, thread + $hu * WORKGROUP, conversion.cols / 8u, held$h, factor, bad);
  // end repeat
}
