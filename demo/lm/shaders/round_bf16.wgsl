// x = x rounded to BF16, to nearest, ties to even, in place: what a runtime has that keeps activations in BF16. Inf and NaN
// stay what they are.
//
// x  f32[m, k]
// The grid is one thread a vec4, folded over two dimensions. No features.

@group(0) @binding(0) var<storage, read_write> x: array<vec4<u32>>;

const THREADS = 64u;

@compute @workgroup_size(THREADS)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let i = (workgroup.y * grid.x + workgroup.x) * THREADS + thread;
  if (i >= arrayLength(&x)) {
    return;
  }
  let bits = x[i];
  let odd = (bits >> vec4<u32>(16u)) & vec4<u32>(1u);
  let rounded = (bits + vec4<u32>(0x7FFFu) + odd) & vec4<u32>(0xFFFF0000u);
  let finite = (bits & vec4<u32>(0x7F800000u)) != vec4<u32>(0x7F800000u);
  x[i] = select(bits, rounded, finite);
}
