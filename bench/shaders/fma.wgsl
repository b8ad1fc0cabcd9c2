// f32 multiply-adds in registers: eight independent vec4 chains a thread, STEPS long.

@group(0) @binding(0) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let a = y[0];
  let b = y[1];
  let start = f32(id.x);
  var c0 = b + start;
  var c1 = c0 + a;
  var c2 = c1 + a;
  var c3 = c2 + a;
  var c4 = c3 + a;
  var c5 = c4 + a;
  var c6 = c5 + a;
  var c7 = c6 + a;
  for (var i = 0u; i < STEPS; i++) {
    c0 = fma(c0, a, b);
    c1 = fma(c1, a, b);
    c2 = fma(c2, a, b);
    c3 = fma(c3, a, b);
    c4 = fma(c4, a, b);
    c5 = fma(c5, a, b);
    c6 = fma(c6, a, b);
    c7 = fma(c7, a, b);
  }
  y[id.x + 2u] = ((c0 + c1) + (c2 + c3)) + ((c4 + c5) + (c6 + c7));
}
