// What every quantization kernel is given: the matrix x f32[rows, cols], as bit patterns, and how to cut it up.

struct Quantization {
  rows: u32,
  // A multiple of block_size, hence of sixteen.
  cols: u32,
  // A block scale serves block_size columns of block_height rows: 1 for 1d tiles, block_size for 2d.
  block_size: u32,
  block_height: u32,
  // A macro factor serves macro_size columns of macro_height rows; macro_size is 0 without Macro Block Scaling.
  macro_size: u32,
  macro_height: u32,
  // Added to the bits of a block's maximum, carries into its exponent where the scale rule goes up a power of two.
  bump: u32,
  // Bits of the f32 that nvfp4's tensor maximum is mapped to: 6 · 448, or 6 · 256 for four over six.
  tensor_max: u32,
  seed_low: u32,
  seed_high: u32,
  // 1 where four over six compares absolute errors, 0 where it compares squares.
  absolute: u32,
  // Workgroups that find the tensor's maximum.
  partials: u32,
}

@group(0) @binding(0) var<uniform> problem: Quantization;
@group(0) @binding(1) var<storage, read> x: array<vec4<u32>>;

// Bits of eight values from flat index 8 · word on.
struct Eight {
  low: vec4<u32>,
  high: vec4<u32>,
}

fn load8(word: u32) -> Eight {
  return Eight(x[2u * word], x[2u * word + 1u]);
}

// Rows row .. row + height, columns col .. col + width; width is a multiple of eight.
struct Region {
  row: u32,
  col: u32,
  height: u32,
  width: u32,
}

// Largest magnitude of a region, as bits: they order like the numbers, with Inf and NaN above them all.
fn region_max(region: Region) -> u32 {
  var largest = vec4<u32>();
  for (var row = region.row; row < region.row + region.height; row++) {
    let first = (row * problem.cols + region.col) / 4u;
    for (var i = first; i < first + region.width / 4u; i++) {
      largest = max(largest, x[i] & vec4<u32>(0x7FFFFFFFu));
    }
  }
  return max(max(largest.x, largest.y), max(largest.z, largest.w));
}

// Tile `index` of the matrix cut into tiles of width × height, row by row; what lies past the edges is cut off.
fn tile_region(index: u32, width: u32, height: u32) -> Region {
  let per_row = (problem.cols + width - 1u) / width;
  let row = index / per_row * height;
  let col = index % per_row * width;
  return Region(row, col, min(height, problem.rows - row), min(width, problem.cols - col));
}

fn tile_count(width: u32, height: u32) -> u32 {
  return ((problem.cols + width - 1u) / width) * ((problem.rows + height - 1u) / height);
}
