// x to int8: 32 values along k, or the sixteen that are left at the end of a row, share the scale max|x| / 127.
//
// x  f32 or f16[m, k], read by load_x4
//
// Integers are the nearest ones to x · (127 / max). Blocks whose largest value is below 2^-112 are zero, so that both
// divisions stay in the range of f32; blocks with NaN or Inf have the scale NaN and integers 0.
// A thread takes a block; its reads of a row use every line that they fetch. Features: none.

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
  let place = place_of((workgroup.y * grid.x + workgroup.x) * WORKGROUP + thread);
  if (!place.inside) {
    return;
  }
  var values: array<vec4<f32>, 8>;
  var largest = 0u;
  for (var i = 0u; i < 8u; i++) {
    values[i] = vec4<f32>();
    if (place.row < conversion.m && place.chunk * 32u + i * 4u < conversion.k) {
      values[i] = load_x4(place.row * (conversion.k / 4u) + place.chunk * 8u + i);
    }
    largest = max(largest, magnitude(values[i]));
  }

  var factor = 0.0;
  var scale = 0u;
  if (largest >= 0x7F800000u) {
    scale = NAN_BITS;
    for (var i = 0u; i < 8u; i++) {
      values[i] = vec4<f32>();
    }
  } else if (largest >= 0x07800000u) {
    let most = bitcast<f32>(largest);
    factor = 127.0 / most;
    scale = bitcast<u32>(most / 254.0);
  }
  for (var i = 0u; i < 2u; i++) {
    words[(place.chunk * 2u + i) * conversion.rows + place.row] = vec4<u32>(
      rounded8(values[4u * i], values[4u * i + 1u], factor),
      rounded8(values[4u * i + 2u], values[4u * i + 3u], factor),
    );
  }
  scales[place.chunk * conversion.rows + place.row] = scale;
}
