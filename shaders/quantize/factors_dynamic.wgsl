// Dynamic macro factors: m = 16 j, j = 0..15, with the least squared error of the quantized macro block, ties to the
// smaller. Sixteen threads try one candidate each for a macro block; the first compares them and stores the byte once
// per row. Zeros, and macro blocks with NaN or Inf, get byte 0.
//
// The error in x is that in y divided by f² = ((16 + j) / 16)², so candidates are compared crosswise.
//
// Shared: WORKGROUP · 12 bytes. Features: none.

const CANDIDATES = 16u;
// Blocks of a macro block: up to 128 / 16 squared.
const MOST_BLOCKS = 64u;

var<workgroup> errors: array<ErrorSum, WORKGROUP>;

fn block_of(region: Region, index: u32) -> Region {
  let per_row = region.width / problem.block_size;
  let row = index / per_row * problem.block_height;
  return Region(
    region.row + row,
    region.col + index % per_row * problem.block_size,
    min(problem.block_height, region.height - row),
    problem.block_size,
  );
}

fn candidate_error(region: Region, factor: u32) -> ErrorSum {
  let blocks = region.width / problem.block_size *
    ((region.height + problem.block_height - 1u) / problem.block_height);
  var bytes: array<u32, MOST_BLOCKS>;
  var largest = NO_RESIDUAL;
  for (var i = 0u; i < blocks; i++) {
    let block = block_of(region, i);
    let byte = mx_block_byte(block, factor, scale_up(region_max(block), factor));
    bytes[i] = byte;
    largest = max(largest, largest_residual(block, factor, byte));
  }
  if (largest == NO_RESIDUAL) {
    return ErrorSum(0u, 0u, 0);
  }
  let unit = residual_unit(largest, region.width * region.height, false);
  var sum = ErrorSum(0u, 0u, 2 * unit);
  for (var i = 0u; i < blocks; i++) {
    sum = add_residuals(sum, block_of(region, i), factor, bytes[i], unit, false);
  }
  return sum;
}

@compute @workgroup_size(WORKGROUP)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let tile = ((workgroup.y * grid.x + workgroup.x) * WORKGROUP + thread) / CANDIDATES;
  let candidate = thread % CANDIDATES;
  let present = tile < tile_count(problem.macro_size, problem.macro_height);
  var region: Region;
  var largest = 0u;
  if (present) {
    region = tile_region(tile, problem.macro_size, problem.macro_height);
    largest = region_max(region);
    if (largest > 0u && largest < F32_INFINITY) {
      errors[thread] = candidate_error(region, candidate * 16u);
    }
  }
  workgroupBarrier();
  if (!present || candidate > 0u) {
    return;
  }
  var best = 0u;
  if (largest > 0u && largest < F32_INFINITY) {
    for (var j = 1u; j < CANDIDATES; j++) {
      let mine = weighted(errors[thread + j], (16u + best) * (16u + best));
      if (less(mine, weighted(errors[thread + best], (16u + j) * (16u + j)))) {
        best = j;
      }
    }
  }
  let per_row = (problem.cols + problem.macro_size - 1u) / problem.macro_size;
  for (var row = region.row; row < region.row + region.height; row++) {
    store_factor(row * per_row + region.col / problem.macro_size, best * 16u);
  }
}
