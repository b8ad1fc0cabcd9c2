// One chain of dependent multiply-adds a thread, in one workgroup: its time is that of STEPS latencies, so it follows the
// clock of the GPU and nothing else.

@group(0) @binding(0) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(32)
fn main(@builtin(local_invocation_index) thread: u32) {
  let a = y[0];
  let b = y[1];
  var c = y[2] + f32(thread);
  for (var i = 0u; i < STEPS; i++) {
    c = fma(c, a, b);
    c = fma(c, a, b);
    c = fma(c, a, b);
    c = fma(c, a, b);
    c = fma(c, a, b);
    c = fma(c, a, b);
    c = fma(c, a, b);
    c = fma(c, a, b);
  }
  y[thread + 3u] = c;
}
