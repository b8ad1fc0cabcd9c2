// One row of x: eight vec4s along k a chunk.

// vec4s of workgroup memory a chunk, the last one empty.
const X_CHUNK = 9u;
// Sums over even and odd places, so that additions depend on each other half as long.
alias x_products = vec2<f32>;

struct X8 {
  low: vec4<f32>,
  high: vec4<f32>,
}

// What a thread brings to workgroup memory at a time.
alias XPiece = vec4<f32>;

fn read_piece(first_row: u32, slab: u32, i: u32) -> XPiece {
  let quad = slab * PIECES + i;
  return read_x(first_row, quad);
}

fn put_piece(i: u32, x: XPiece) {
  x_slab[i / 8u % SLAB * X_CHUNK + i % 8u] = x;
}

// x for word `i` of a chunk of the slab. Indices are cut where the array is accessed, here and in x_rows_*.wgsl: compilers
// do not see through calls that they are in range.
fn load_x8(slab_chunk: u32, i: u32) -> X8 {
  let at = slab_chunk % SLAB * X_CHUNK + 2u * (i % 4u);
  return X8(x_slab[at], x_slab[at + 1u]);
}

fn multiply8(w: array<vec4<f32>, 2>, x: X8, products: x_products) -> x_products {
  var p = fma(w[0].xy, x.low.xy, products);
  p = fma(w[0].zw, x.low.zw, p);
  p = fma(w[1].xy, x.high.xy, p);
  return fma(w[1].zw, x.high.zw, p);
}

fn finish(products: x_products, unit: x_sums) -> x_sums {
  return (products.x + products.y) * unit;
}
