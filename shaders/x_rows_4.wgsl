// Four rows of x: a chunk has 32 vec4s, each all rows at one place along k.

const X_CHUNK = 33u;
alias x_products = vec4<f32>;

struct X8 {
  a: mat4x4<f32>,
  b: mat4x4<f32>,
}

alias XPiece = mat4x4<f32>;

fn read_piece(first_row: u32, slab: u32, i: u32) -> XPiece {
  let quad = slab * PIECES + i;
  return transpose(mat4x4<f32>(
    read_x(first_row, quad),
    read_x(first_row + 1u, quad),
    read_x(first_row + 2u, quad),
    read_x(first_row + 3u, quad),
  ));
}

fn put_piece(i: u32, x: XPiece) {
  let at = i / 8u % SLAB * X_CHUNK + i % 8u * 4u;
  x_slab[at] = x[0];
  x_slab[at + 1u] = x[1];
  x_slab[at + 2u] = x[2];
  x_slab[at + 3u] = x[3];
}

fn load_x8(slab_chunk: u32, i: u32) -> X8 {
  let first = slab_chunk % SLAB * X_CHUNK + 8u * (i % 4u);
  return X8(
    mat4x4<f32>(x_slab[first], x_slab[first + 1u], x_slab[first + 2u], x_slab[first + 3u]),
    mat4x4<f32>(x_slab[first + 4u], x_slab[first + 5u], x_slab[first + 6u], x_slab[first + 7u]),
  );
}

fn multiply8(w: array<vec4<f32>, 2>, x: X8, products: x_products) -> x_products {
  var p = fma(w[0].xxxx, x.a[0], products);
  p = fma(w[0].yyyy, x.a[1], p);
  p = fma(w[0].zzzz, x.a[2], p);
  p = fma(w[0].wwww, x.a[3], p);
  p = fma(w[1].xxxx, x.b[0], p);
  p = fma(w[1].yyyy, x.b[1], p);
  p = fma(w[1].zzzz, x.b[2], p);
  return fma(w[1].wwww, x.b[3], p);
}

fn finish(products: x_products, unit: x_sums) -> x_sums {
  return products * unit;
}
