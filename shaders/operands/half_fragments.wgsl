// x as f16 fragments of a subgroup matrix, rows scaled by a power of two each.
//
// x       f32 or f16[m, k], read by load_x4
// halves  f16[rows / FRAGMENT_M, cols / FRAGMENT_K, FRAGMENT_M, FRAGMENT_K], eight to a vec4
// scales  f32[rows]: what a row's halves have to be multiplied by
// rows and cols are m and k filled up to whole tiles; what is past the edges is zero.
//
// A workgroup takes a row, a thread eight values at a time (row_values.wgsl). Where they are to be SCALED it finds the
// largest magnitude and writes x · 2^(EXPONENT - its exponent), so that the row's largest values are in
// [2^EXPONENT, 2^(EXPONENT + 1)) and those 2^-(EXPONENT + 14) times as large are still normal halves.
// Shared: 4 bytes. Features: subgroups; pack2x16float makes the halves.

struct Conversion {
  m: u32,
  k: u32,
  rows: u32,
  cols: u32,
}

@group(0) @binding(2) var<storage, read_write> halves: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> scales: array<f32>;

// Stores values 8 · i and on of a row, in memory that is `cols8` eights wide.
fn put8(row: u32, i: u32, cols8: u32, value: Eight, factor: f32) {
  const VECTORS = FRAGMENT_K / 8u;
  if (i >= cols8) {
    return;
  }
  let fragment_row = row / FRAGMENT_M * (cols8 / VECTORS) * FRAGMENT_M + row % FRAGMENT_M;
  let low = value.low * factor;
  let high = value.high * factor;
  let at = (fragment_row + i / VECTORS * FRAGMENT_M) * VECTORS + i % VECTORS;
  halves[at] = vec4<u32>(
    pack2x16float(low.xy),
    pack2x16float(low.zw),
    pack2x16float(high.xy),
    pack2x16float(high.zw),
  );
}

@compute @workgroup_size(WORKGROUP)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let row = workgroup.y * grid.x + workgroup.x;
  if (row >= conversion.rows) {
    return;
  }
  hold_row(row, thread);
  var factor = 1.0;
  var scale = 1.0;
  if (SCALED) {
    // The factor and its inverse have to be normal numbers, so that rows below 2^(EXPONENT - 126) keep fewer bits. Inf and
    // NaN stay what they are.
    let exponent = clamp(largest_of_row() >> 23u, EXPONENT + 1u, 254u);
    factor = bitcast<f32>((254u + EXPONENT - exponent) << 23u);
    scale = bitcast<f32>((exponent - EXPONENT) << 23u);
  }
  if (thread == 0u) {
    scales[row] = scale;
  }
  // repeat h < HELD
  put8(row, thread + $hu * WORKGROUP, conversion.cols / 8u, held$h, factor);
  // end repeat
}
