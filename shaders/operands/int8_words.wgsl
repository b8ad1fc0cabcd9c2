// Eight values to int8, in the order in which weights in kernel order are cheapest to unpack: of v0..v7 along k, the first
// word has v6 v0 v7 v1 from its lowest byte up, the second v4 v2 v5 v3.
//
// Measured on an H200, rows of 4096 values (int8_rows.wgsl), 512 and 2048 of them: 4.15 µs and 9.7, with round() and a
// conversion to i32 in place of the sum 4.65 and 10.6.

// Bytes of values · factor, rounded; at most 127 in magnitude. Floats around 1.5 · 2^23 are integers, and the low byte of
// such a sum is what was added to it.
fn rounded4(values: vec4<f32>, factor: f32) -> vec4<u32> {
  return bitcast<vec4<u32>>(fma(values, vec4<f32>(factor), vec4<f32>(12582912.0))) & vec4<u32>(0xFFu);
}

fn rounded8(low: vec4<f32>, high: vec4<f32>, factor: f32) -> vec2<u32> {
  let a = rounded4(low, factor);
  let b = rounded4(high, factor);
  return vec2<u32>(
    b.z | (a.x << 8u) | (b.w << 16u) | (a.y << 24u),
    b.x | (a.z << 8u) | (b.y << 16u) | (a.w << 24u),
  );
}
