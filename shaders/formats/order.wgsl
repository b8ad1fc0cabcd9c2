// Where things stand in kernel order (src/matrix/pack.ts): rows in blocks of 32, chunks of 32 codes along k.
// w_codes:  vec4<u32>[blocks of rows, chunks, 32], bound by the kernel, which may read it in smaller pieces
// w_scales: u32[blocks of rows, blocks of BLOCK_SIZE values, 8]: byte b of word j is of row 8b + j

@group(0) @binding(3) var<storage, read> w_scales: array<u32>;

// Weights lie in chunks of 32 values along k, the last one of a row filled up with zeros.
fn chunks_per_row() -> u32 {
  return (size_k() + 31u) / 32u;
}

// Index of a row's chunk among vec4s of codes.
fn chunk_index(row: u32, chunk: u32) -> u32 {
  return (row / 32u * chunks_per_row() + chunk) * 32u + row % 32u;
}

// Index of the word with byte `i` of a row in a field that has `width` bytes a row.
fn byte_word(row: u32, i: u32, width: u32) -> u32 {
  return (row / 32u * width + i) * 8u + row % 8u;
}
