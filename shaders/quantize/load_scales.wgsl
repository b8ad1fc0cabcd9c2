// Block scales, as an earlier step stored them.

@group(0) @binding(3) var<storage, read> scales: array<u32>;

fn scale_byte(row: u32, col: u32) -> u32 {
  let i = row * (problem.cols / problem.block_size) + col / problem.block_size;
  return (scales[i >> 2u] >> ((i & 3u) * 8u)) & 255u;
}
