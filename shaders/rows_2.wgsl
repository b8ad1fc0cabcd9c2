// Two neighbouring rows of w at a time; see rows_4.wgsl.

const ROWS = 2u;
alias rows_f32 = vec2<f32>;

struct RowCodes {
  a: vec4<u32>,
  b: vec4<u32>,
}

fn load_codes(first: u32, chunk: u32) -> RowCodes {
  let last = problem.n - 1u;
  return RowCodes(w_codes[chunk_index(min(first, last), chunk)], w_codes[chunk_index(min(first + 1u, last), chunk)]);
}

fn load_scales(first: u32, block: u32) -> rows_f32 {
  let last = problem.n - 1u;
  return vec2<f32>(weight_scale(min(first, last), block), weight_scale(min(first + 1u, last), block));
}

struct RowValues {
  a: array<vec4<f32>, 2>,
  b: array<vec4<f32>, 2>,
}

fn decode_rows(codes: RowCodes, i: u32) -> RowValues {
  return RowValues(dequant8(codes.a[i]), dequant8(codes.b[i]));
}

fn multiply_rows(w: RowValues, x0: vec4<f32>, x1: vec4<f32>, sum: rows_f32) -> rows_f32 {
  return vec2<f32>(multiply8(w.a, x0, x1, sum.x), multiply8(w.b, x0, x1, sum.y));
}

fn widen(sum: rows_f32) -> vec4<f32> {
  return vec4<f32>(sum, 0.0, 0.0);
}
