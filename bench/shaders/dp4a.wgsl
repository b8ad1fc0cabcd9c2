// int8 dot products in registers: eight independent chains a thread, each sum an operand of its next product, so that
// no product can be taken out of the loop.
// Features: packed_4x8_integer_dot_product.

@group(0) @binding(0) var<storage, read_write> y: array<i32>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let b = bitcast<u32>(y[0]);
  let start = i32(id.x);
  var c0 = y[1] + start;
  var c1 = c0 * 3;
  var c2 = c0 * 5;
  var c3 = c0 * 7;
  var c4 = c0 * 9;
  var c5 = c0 * 11;
  var c6 = c0 * 13;
  var c7 = c0 * 15;
  for (var i = 0u; i < STEPS; i++) {
    c0 += dot4I8Packed(bitcast<u32>(c0), b);
    c1 += dot4I8Packed(bitcast<u32>(c1), b);
    c2 += dot4I8Packed(bitcast<u32>(c2), b);
    c3 += dot4I8Packed(bitcast<u32>(c3), b);
    c4 += dot4I8Packed(bitcast<u32>(c4), b);
    c5 += dot4I8Packed(bitcast<u32>(c5), b);
    c6 += dot4I8Packed(bitcast<u32>(c6), b);
    c7 += dot4I8Packed(bitcast<u32>(c7), b);
  }
  y[id.x + 2u] = ((c0 + c1) + (c2 + c3)) + ((c4 + c5) + (c6 + c7));
}
