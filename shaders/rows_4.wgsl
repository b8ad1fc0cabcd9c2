// Four neighbouring rows of w at a time, written out: arrays indexed in loops end in local memory on some drivers.
// One component of a vec4 for each row.

const ROWS = 4u;
alias rows_f32 = vec4<f32>;

struct RowCodes {
  a: vec4<u32>,
  b: vec4<u32>,
  c: vec4<u32>,
  d: vec4<u32>,
}

// Chunk `chunk` of rows first..first+3. Rows past the edge repeat the last one; what they give is not stored.
fn load_codes(first: u32, chunk: u32) -> RowCodes {
  let last = problem.n - 1u;
  return RowCodes(
    w_codes[chunk_index(min(first, last), chunk)],
    w_codes[chunk_index(min(first + 1u, last), chunk)],
    w_codes[chunk_index(min(first + 2u, last), chunk)],
    w_codes[chunk_index(min(first + 3u, last), chunk)],
  );
}

fn load_scales(first: u32, block: u32) -> rows_f32 {
  let last = problem.n - 1u;
  return vec4<f32>(
    weight_scale(min(first, last), block),
    weight_scale(min(first + 1u, last), block),
    weight_scale(min(first + 2u, last), block),
    weight_scale(min(first + 3u, last), block),
  );
}

struct RowValues {
  a: array<vec4<f32>, 2>,
  b: array<vec4<f32>, 2>,
  c: array<vec4<f32>, 2>,
  d: array<vec4<f32>, 2>,
}

// Eight values of each row: word `i` of its chunk.
fn decode_rows(codes: RowCodes, i: u32) -> RowValues {
  return RowValues(dequant8(codes.a[i]), dequant8(codes.b[i]), dequant8(codes.c[i]), dequant8(codes.d[i]));
}

fn multiply_rows(w: RowValues, x0: vec4<f32>, x1: vec4<f32>, sum: rows_f32) -> rows_f32 {
  return vec4<f32>(
    multiply8(w.a, x0, x1, sum.x),
    multiply8(w.b, x0, x1, sum.y),
    multiply8(w.c, x0, x1, sum.z),
    multiply8(w.d, x0, x1, sum.w),
  );
}

fn widen(sum: rows_f32) -> vec4<f32> {
  return sum;
}
