// Eight rows of x: a chunk has 64 vec4s, at each place along k rows 0..3, then rows 4..7.

const X_ROWS = 8u;
const X_CHUNK = 65u;
alias x_sums = mat2x4<f32>;
alias x_products = mat2x4<f32>;

// Rows 0..3 and 4..7 at four neighbouring places along k.
struct XQuad {
  low: mat4x4<f32>,
  high: mat4x4<f32>,
}

struct X8 {
  first: XQuad,
  second: XQuad,
}

fn read_four(first_row: u32, quad: u32) -> mat4x4<f32> {
  return transpose(mat4x4<f32>(
    read_x(first_row, quad),
    read_x(first_row + 1u, quad),
    read_x(first_row + 2u, quad),
    read_x(first_row + 3u, quad),
  ));
}

fn read_quad(first_row: u32, quad: u32) -> XQuad {
  return XQuad(read_four(first_row, quad), read_four(first_row + 4u, quad));
}

fn put_quad(i: u32, x: XQuad) {
  if (i < SLAB_QUADS) {
    let at = i / 8u * X_CHUNK + i % 8u * 8u;
    x_slab[at] = x.low[0];
    x_slab[at + 1u] = x.high[0];
    x_slab[at + 2u] = x.low[1];
    x_slab[at + 3u] = x.high[1];
    x_slab[at + 4u] = x.low[2];
    x_slab[at + 5u] = x.high[2];
    x_slab[at + 6u] = x.low[3];
    x_slab[at + 7u] = x.high[3];
  }
}

fn load_quad(at: u32) -> XQuad {
  return XQuad(
    mat4x4<f32>(x_slab[at], x_slab[at + 2u], x_slab[at + 4u], x_slab[at + 6u]),
    mat4x4<f32>(x_slab[at + 1u], x_slab[at + 3u], x_slab[at + 5u], x_slab[at + 7u]),
  );
}

fn load_x8(at: u32, i: u32) -> X8 {
  return X8(load_quad(at + 16u * i), load_quad(at + 16u * i + 8u));
}

fn multiply4(w: vec4<f32>, x: mat4x4<f32>, products: vec4<f32>) -> vec4<f32> {
  return fma(w.wwww, x[3], fma(w.zzzz, x[2], fma(w.yyyy, x[1], fma(w.xxxx, x[0], products))));
}

fn multiply8(w: array<vec4<f32>, 2>, x: X8, products: x_products) -> x_products {
  return mat2x4<f32>(
    multiply4(w[1], x.second.low, multiply4(w[0], x.first.low, products[0])),
    multiply4(w[1], x.second.high, multiply4(w[0], x.first.high, products[1])),
  );
}

fn finish(products: x_products) -> x_sums {
  return products * DECODED_UNIT;
}

fn store_sums(column: u32, row: u32, sums: x_sums) {
  let at = column * (64u * ROWS) + row;
  column_sums[at] = sums[0].x;
  column_sums[at + 8u * ROWS] = sums[0].y;
  column_sums[at + 16u * ROWS] = sums[0].z;
  column_sums[at + 24u * ROWS] = sums[0].w;
  column_sums[at + 32u * ROWS] = sums[1].x;
  column_sums[at + 40u * ROWS] = sums[1].y;
  column_sums[at + 48u * ROWS] = sums[1].z;
  column_sums[at + 56u * ROWS] = sums[1].w;
}
