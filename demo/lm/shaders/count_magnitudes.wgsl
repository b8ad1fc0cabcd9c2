// counts[bits(|x[i]|) >> 13] += 1 for all i; counts[BINS] = max over i of bits(|x[i]|)
//
// x       u32[m, k]: the bits of f32
// counts  u32[BINS + 1]: of exponents and the upper ten bits of mantissas, then the largest magnitude's bits, which are in
//         the order of magnitudes; those of Inf and NaN are above all finite ones
// The grid is one thread a value, folded over two dimensions. No features.

@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> counts: array<atomic<u32>>;

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
  let bits = x[i] & 0x7fffffffu;
  atomicMax(&counts[BINS], bits);
  // Inf and NaN have no bin.
  if (bits < 0x7f800000u) {
    atomicAdd(&counts[bits >> 13u], 1u);
  }
}
