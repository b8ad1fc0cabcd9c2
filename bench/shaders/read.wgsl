// Reads x and keeps nothing: eight vec4s a thread, a grid apart, are joined, and written only if they give a value that
// random data does not have.

@group(0) @binding(0) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<u32>>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let stride = groups.x * 256u;
  var joined = vec4<u32>();
  for (var i = 0u; i < 8u; i++) {
    joined ^= x[id.x + i * stride];
  }
  if (all(joined == vec4<u32>(0x5bd1e995u, 0x1b873593u, 0xcc9e2d51u, 0x85ebca6bu))) {
    y[id.x] = joined;
  }
}
