// x as f16 fragments of a subgroup matrix, each row scaled by a power of two.
//
// x       f32 or f16[m, k], read by load_x4
// halves  f16[rows / FRAGMENT_M, cols / FRAGMENT_K, FRAGMENT_M, FRAGMENT_K], eight to a vec4
// scales  f32[rows]: what a row's halves have to be multiplied by
// rows and cols are m and k filled up to whole tiles; what is past the edges is zero.
//
// A workgroup takes a row: it finds the largest magnitude, then writes x · 2^(14 - its exponent), so that the row's
// largest values are in [2^14, 2^15) and those 2^-28 times as large are still normal halves.
// Shared: WORKGROUP · 4 bytes. Features: none, as pack2x16float makes the halves.

struct Conversion {
  m: u32,
  k: u32,
  rows: u32,
  cols: u32,
}

@group(0) @binding(2) var<storage, read_write> halves: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> scales: array<f32>;

var<workgroup> maxima: array<u32, WORKGROUP>;

fn magnitude(value: vec4<f32>) -> u32 {
  let bits = bitcast<vec4<u32>>(value) & vec4<u32>(0x7FFFFFFFu);
  return max(max(bits.x, bits.y), max(bits.z, bits.w));
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
  let present = row < conversion.m;
  let k4 = conversion.k / 4u;
  let first = row * k4;

  var largest = 0u;
  if (present) {
    for (var i = thread; i < k4; i += WORKGROUP) {
      largest = max(largest, magnitude(load_x4(first + i)));
    }
  }
  maxima[thread] = largest;
  for (var half = WORKGROUP / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (thread < half) {
      maxima[thread] = max(maxima[thread], maxima[thread + half]);
    }
  }
  workgroupBarrier();
  // The factor and its inverse have to be normal numbers, so that rows below 2^-112 keep fewer bits. Inf and NaN stay
  // what they are.
  let exponent = clamp(maxima[0] >> 23u, 15u, 254u);
  let factor = bitcast<f32>((268u - exponent) << 23u);
  if (thread == 0u) {
    scales[row] = bitcast<f32>((exponent - 14u) << 23u);
  }

  let fragment_row = row / FRAGMENT_M * (conversion.cols / FRAGMENT_K) * FRAGMENT_M + row % FRAGMENT_M;
  const VECTORS = FRAGMENT_K / 8u;
  for (var i = thread; i < conversion.cols / 8u; i += WORKGROUP) {
    var low = vec4<f32>();
    var high = vec4<f32>();
    if (present && 2u * i < k4) {
      low = load_x4(first + 2u * i) * factor;
      high = load_x4(first + 2u * i + 1u) * factor;
    }
    let at = (fragment_row + i / VECTORS * FRAGMENT_M) * VECTORS + i % VECTORS;
    halves[at] = vec4<u32>(
      pack2x16float(low.xy),
      pack2x16float(low.zw),
      pack2x16float(high.xy),
      pack2x16float(high.zw),
    );
  }
}
