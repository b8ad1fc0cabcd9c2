// Macro factors, as an earlier step stored them.

@group(0) @binding(4) var<storage, read> factors: array<u32>;

fn factor_byte(row: u32, col: u32) -> u32 {
  let per_row = (problem.cols + problem.macro_size - 1u) / problem.macro_size;
  let i = row * per_row + col / problem.macro_size;
  return (factors[i >> 2u] >> ((i & 3u) * 8u)) & 255u;
}
