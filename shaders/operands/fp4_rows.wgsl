// x in FP4 back to f32, for kernels that multiply floats: a quarter of the doubled values times the scale.
//
// codes  E2M1 in canonical order: u32[m, k / 8], code i of a word in its bits 4i..4i+3
// rows   f32[m, k]
// The scales are read by x_scale (int8_scale_*.wgsl), X_BLOCK values to each: a quarter of the block's. Blocks that had NaN
// or Inf are NaN. A thread takes eight values. Features: none. Roundings: two.

struct Conversion {
  m: u32,
  k: u32,
}

const NAN_BITS = 0x7FC00000u;

@group(0) @binding(1) var<storage, read> codes: array<u32>;
@group(0) @binding(2) var<storage, read_write> rows: array<vec4<u32>>;

// Twice the value of each of four codes.
fn doubled_floats(codes4: vec4<u32>) -> vec4<f32> {
  let size = codes4 & vec4<u32>(7u);
  // 0, 1, 2, 3, 4, 6, 8, 12, a nibble each.
  let doubled = vec4<f32>((vec4<u32>(0xC8643210u) >> (size * 4u)) & vec4<u32>(15u));
  return select(doubled, -doubled, (codes4 & vec4<u32>(8u)) != vec4<u32>());
}

@compute @workgroup_size(WORKGROUP)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let i = (workgroup.y * grid.x + workgroup.x) * WORKGROUP + thread;
  let words = conversion.k / 8u;
  if (i >= conversion.m * words) {
    return;
  }
  let bits = x_scale(i / words, i % words * 8u / X_BLOCK);
  let shifts = vec4<u32>(0u, 4u, 8u, 12u);
  let low = doubled_floats((vec4<u32>(codes[i]) >> shifts) & vec4<u32>(15u));
  let high = doubled_floats((vec4<u32>(codes[i] >> 16u) >> shifts) & vec4<u32>(15u));
  // NaN as bits: arithmetic may take it to be absent.
  let is_nan = bits == NAN_BITS;
  let scale = bitcast<f32>(select(bits, 0u, is_nan));
  rows[2u * i] = select(bitcast<vec4<u32>>(low * 2.0 * scale), vec4<u32>(NAN_BITS), is_nan);
  rows[2u * i + 1u] = select(bitcast<vec4<u32>>(high * 2.0 * scale), vec4<u32>(NAN_BITS), is_nan);
}
