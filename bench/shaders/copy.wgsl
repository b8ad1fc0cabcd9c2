// y = x, four vec4s a thread, a grid apart, so that neighbouring threads touch neighbouring words.
// Ceiling of everything that moves bytes: counts bytes read and written.

@group(0) @binding(0) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<u32>>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let stride = groups.x * 256u;
  y[id.x] = x[id.x];
  y[id.x + stride] = x[id.x + stride];
  y[id.x + 2u * stride] = x[id.x + 2u * stride];
  y[id.x + 3u * stride] = x[id.x + 3u * stride];
}
