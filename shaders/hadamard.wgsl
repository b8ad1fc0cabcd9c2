// out = x rotated along k by the 16-wide random Hadamard transform, tile by tile: t · diag(SIGNS) · H16 / 4.
// The same additions in the same order as the CPU's `rotate`.
//
// x: f32 or f16, read by load_x4; out: f32 as vec4s; a thread rotates one tile of sixteen.
// Features: none.

struct Conversion {
  // Tiles of sixteen values.
  tiles: u32,
}

@group(0) @binding(2) var<storage, read_write> out: array<vec4<f32>>;

// Stages of stride 1 and 2 inside a vec4.
fn butterfly4(v: vec4<f32>) -> vec4<f32> {
  let s = vec4<f32>(v.x + v.y, v.x - v.y, v.z + v.w, v.z - v.w);
  return vec4<f32>(s.xy + s.zw, s.xy - s.zw);
}

@compute @workgroup_size(WORKGROUP)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let tile = (workgroup.y * grid.x + workgroup.x) * WORKGROUP + thread;
  if (tile >= conversion.tiles) {
    return;
  }
  // TransformerEngine's signs: + + + - + - - - - - - + - + - -
  let a = butterfly4(load_x4(tile * 4u) * vec4<f32>(1.0, 1.0, 1.0, -1.0));
  let b = butterfly4(load_x4(tile * 4u + 1u) * vec4<f32>(1.0, -1.0, -1.0, -1.0));
  let c = butterfly4(load_x4(tile * 4u + 2u) * vec4<f32>(-1.0, -1.0, -1.0, 1.0));
  let d = butterfly4(load_x4(tile * 4u + 3u) * vec4<f32>(-1.0, 1.0, -1.0, -1.0));
  // Stage of stride 4, then of stride 8.
  let ab = a + b;
  let a_b = a - b;
  let cd = c + d;
  let c_d = c - d;
  out[tile * 4u] = (ab + cd) * 0.25;
  out[tile * 4u + 1u] = (a_b + c_d) * 0.25;
  out[tile * 4u + 2u] = (ab - cd) * 0.25;
  out[tile * 4u + 3u] = (a_b - c_d) * 0.25;
}
