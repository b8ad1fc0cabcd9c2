// gate = gate / (1 + exp(-gate)) · up (SwiGLU, arXiv 2002.05202), element by element, in place of the gate.
//
// gate, up  f32[m, intermediate]
// The grid is one thread a vec4, folded over two dimensions. No features.

@group(0) @binding(0) var<storage, read_write> gate: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> up: array<vec4<f32>>;

const THREADS = 64u;

@compute @workgroup_size(THREADS)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let i = (workgroup.y * grid.x + workgroup.x) * THREADS + thread;
  if (i >= arrayLength(&gate)) {
    return;
  }
  let value = gate[i];
  // exp stays finite; below -88 the quotient is 0 to f32.
  gate[i] = value / (1.0 + exp(min(-value, vec4<f32>(88.0)))) * up[i];
}
