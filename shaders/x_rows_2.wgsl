// Two rows of x: a chunk has sixteen vec4s, each both rows at two neighbouring places along k.

const X_CHUNK = 17u;
alias x_products = vec2<f32>;

struct X8 {
  a: vec4<f32>,
  b: vec4<f32>,
  c: vec4<f32>,
  d: vec4<f32>,
}

struct XPiece {
  a: vec4<f32>,
  b: vec4<f32>,
}

fn read_piece(first_row: u32, slab: u32, i: u32) -> XPiece {
  let quad = slab * PIECES + i;
  return XPiece(read_x(first_row, quad), read_x(first_row + 1u, quad));
}

fn put_piece(i: u32, x: XPiece) {
  let at = i / 8u % SLAB * X_CHUNK + i % 8u * 2u;
  x_slab[at] = vec4<f32>(x.a.x, x.b.x, x.a.y, x.b.y);
  x_slab[at + 1u] = vec4<f32>(x.a.z, x.b.z, x.a.w, x.b.w);
}

fn load_x8(slab_chunk: u32, i: u32) -> X8 {
  let first = slab_chunk % SLAB * X_CHUNK + 4u * (i % 4u);
  return X8(x_slab[first], x_slab[first + 1u], x_slab[first + 2u], x_slab[first + 3u]);
}

fn multiply8(w: array<vec4<f32>, 2>, x: X8, products: x_products) -> x_products {
  var p = fma(w[0].xx, x.a.xy, products);
  p = fma(w[0].yy, x.a.zw, p);
  p = fma(w[0].zz, x.b.xy, p);
  p = fma(w[0].ww, x.b.zw, p);
  p = fma(w[1].xx, x.c.xy, p);
  p = fma(w[1].yy, x.c.zw, p);
  p = fma(w[1].zz, x.d.xy, p);
  return fma(w[1].ww, x.d.zw, p);
}

fn finish(products: x_products, unit: x_sums) -> x_sums {
  return products * unit;
}
