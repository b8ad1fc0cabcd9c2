// x in FP4 to int8: doubled values, and block scales as f32.
//
// codes  E2M1 in canonical order: u32[m, k / 8], code i of a word in its bits 4i..4i+3
// The scales are read by x_scale (int8_scale_*.wgsl), X_BLOCK values to each; those of blocks that had NaN or Inf are
// NaN. A thread takes 32 columns of a row. Features: none.

@group(0) @binding(1) var<storage, read> codes: array<u32>;

// Codes in the low half of each byte to doubled values.
fn doubled_codes(bytes: u32) -> u32 {
  return doubled4(bytes & 0x07070707u, (bytes & 0x08080808u) << 4u);
}

// Eight codes in the order of the layout.
fn expand8(word: u32) -> vec2<u32> {
  // c0 c2 c4 c6 and c1 c3 c5 c7.
  let even = word & 0x0F0F0F0Fu;
  let odd = (word >> 4u) & 0x0F0F0F0Fu;
  return vec2<u32>(
    doubled_codes((even >> 24u) | ((even << 8u) & 0xFF00u) | ((odd >> 8u) & 0xFF0000u) | (odd << 24u)),
    doubled_codes(((even >> 16u) & 0xFFu) | (even & 0xFF00u) | (odd & 0xFF0000u) | ((odd << 16u) & 0xFF000000u)),
  );
}

@compute @workgroup_size(WORKGROUP)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let place = place_of((workgroup.y * grid.x + workgroup.x) * WORKGROUP + thread);
  if (!place.inside) {
    return;
  }
  for (var i = 0u; i < 2u; i++) {
    let k = place.chunk * 32u + i * 16u;
    var pair = vec4<u32>();
    if (place.row < conversion.m && k < conversion.k) {
      let at = (place.row * conversion.k + k) / 8u;
      pair = vec4<u32>(expand8(codes[at]), expand8(codes[at + 1u]));
    }
    words[(place.chunk * 2u + i) * conversion.rows + place.row] = pair;
  }
  for (var i = 0u; i < 32u / X_BLOCK; i++) {
    let block = place.chunk * (32u / X_BLOCK) + i;
    var scale = 0u;
    if (place.row < conversion.m && block < conversion.k / X_BLOCK) {
      scale = x_scale(place.row, block);
    }
    scales[block * conversion.rows + place.row] = scale;
  }
}
