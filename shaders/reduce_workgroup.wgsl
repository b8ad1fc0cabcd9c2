// Sums over the LANES neighbouring threads of a group, through workgroup memory. Core WebGPU.
// To be called by all threads of the workgroup; the group's first thread gets the sums, the others something else.
// Shared: THREADS · 16 bytes. Roundings: log2(LANES).

var<workgroup> reduce_slots: array<vec4<f32>, THREADS>;

fn reduce_lanes(value: vec4<f32>, thread: u32) -> vec4<f32> {
  workgroupBarrier();
  reduce_slots[thread] = value;
  for (var half = LANES / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (thread % LANES < half) {
      reduce_slots[thread] += reduce_slots[thread + half];
    }
  }
  workgroupBarrier();
  return reduce_slots[thread];
}
