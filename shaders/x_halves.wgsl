// x of gemv.wgsl in workgroup memory as f16, and multiplied as such: each sixteen values of a row are scaled by a
// power of two, so that the largest are in [2^14, 2^15) and any f32 keeps eleven bits; products with codes, which are
// their values · 2^-14, stay below 12. Sums of eight products are halves, what they are added to is f32.
// A chunk has four vec4s a row, then what sums have to be multiplied by: of its first half, then of its second.

const PIECES = SLAB * 2u * X_ROWS;
const CHAIN = 16u;
const X_UNITS = (2u * X_ROWS + 3u) / 4u;
// An odd number, so that columns meet different banks.
const X_CHUNK = (4u * X_ROWS + X_UNITS) | 1u;

alias slab_vector = vec4<u32>;

var<workgroup> x_slab: array<slab_vector, max(SLAB * X_CHUNK, SUMS_IN_SLAB)>;

// Sixteen neighbours along k of a row.
struct XPiece {
  a: vec4<f32>,
  b: vec4<f32>,
  c: vec4<f32>,
  d: vec4<f32>,
}

fn read_piece(first_row: u32, slab: u32, i: u32) -> XPiece {
  let row = first_row + i / (2u * SLAB);
  let quad = (slab * 2u * SLAB + i % (2u * SLAB)) * 4u;
  return XPiece(read_x(row, quad), read_x(row, quad + 1u), read_x(row, quad + 2u), read_x(row, quad + 3u));
}

fn put_piece(i: u32, x: XPiece) {
  let largest = max(max(abs(x.a), abs(x.b)), max(abs(x.c), abs(x.d)));
  let magnitude = bitcast<u32>(max(max(largest.x, largest.y), max(largest.z, largest.w)));
  // The factor has to be a normal number, so that values below 2^-112 keep fewer bits. Inf and NaN stay what they are.
  let exponent = clamp(magnitude >> 23u, 15u, 254u);
  let factor = bitcast<f32>((268u - exponent) << 23u);
  let chunk = i % (2u * SLAB) / 2u * X_CHUNK;
  let half = i % 2u;
  let row = i / (2u * SLAB) % X_ROWS;
  let at = chunk + row * 4u + half * 2u;
  x_slab[at] = to_halves(x.a * factor, x.b * factor);
  x_slab[at + 1u] = to_halves(x.c * factor, x.d * factor);
  let unit = half * X_ROWS + row;
  // 2^14 of the factor and the codes' 2^-14 cancel.
  x_slab[chunk + 4u * X_ROWS + unit / 4u][unit % 4u] = exponent << 23u;
}

fn to_halves(a: vec4<f32>, b: vec4<f32>) -> vec4<u32> {
  return vec4<u32>(
    pack2x16float(a.xy),
    pack2x16float(a.zw),
    pack2x16float(b.xy),
    pack2x16float(b.zw),
  );
}

// Sums of a row of x over even and odd places.
struct x_products {
  // repeat r < X_ROWS
  r$r: vec2<f16>,
  // end repeat
}

struct X8 {
  // repeat r < X_ROWS
  r$r: vec4<u32>,
  // end repeat
}

// x for word `i` of a chunk of the slab.
fn load_x8(slab_chunk: u32, i: u32) -> X8 {
  let at = slab_chunk % SLAB * X_CHUNK + i % 4u;
  return X8(
    // repeat r < X_ROWS
    x_slab[at + $ru * 4u],
    // end repeat
  );
}

fn load_x_unit(slab_chunk: u32, half: u32) -> x_sums {
  let at = slab_chunk % SLAB * X_CHUNK + 4u * X_ROWS;
  return x_sums(
    // repeat r < X_ROWS
    bitcast<f32>(x_slab[at + (half % 2u * X_ROWS + $ru) / 4u][(half % 2u * X_ROWS + $ru) % 4u]),
    // end repeat
  );
}

fn dequant8(word: u32) -> vec4<u32> {
  return pairs8(word);
}

// Four pairs of halves times four of codes.
fn multiply_pairs(w: vec4<u32>, x: vec4<u32>, products: vec2<f16>) -> vec2<f16> {
  var p = fma(bitcast<vec2<f16>>(w.x), bitcast<vec2<f16>>(x.x), products);
  p = fma(bitcast<vec2<f16>>(w.y), bitcast<vec2<f16>>(x.y), p);
  p = fma(bitcast<vec2<f16>>(w.z), bitcast<vec2<f16>>(x.z), p);
  return fma(bitcast<vec2<f16>>(w.w), bitcast<vec2<f16>>(x.w), p);
}

fn multiply8(w: vec4<u32>, x: X8, products: x_products) -> x_products {
  return x_products(
    // repeat r < X_ROWS
    multiply_pairs(w, x.r$r, products.r$r),
    // end repeat
  );
}

fn finish(products: x_products, unit: x_sums) -> x_sums {
  return unit * x_sums(
    // repeat r < X_ROWS
    f32(products.r$r.x) + f32(products.r$r.y),
    // end repeat
  );
}
