// f32 from x in f16, read by load_x4, for quantizers, which take f32.
// A thread takes four values. Features: none.

struct Conversion {
  vectors: u32,
}

@group(0) @binding(2) var<storage, read_write> out: array<vec4<f32>>;

@compute @workgroup_size(WORKGROUP)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let i = (workgroup.y * grid.x + workgroup.x) * WORKGROUP + thread;
  if (i < conversion.vectors) {
    out[i] = load_x4(i);
  }
}
