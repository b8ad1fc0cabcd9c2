// Block scales of x f32[rows, cols] for tiles of any height, by the format and rule composed in.
// A thread takes one tile and stores its byte once per row. Features: none.

@compute @workgroup_size(WORKGROUP)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let tile = (workgroup.y * grid.x + workgroup.x) * WORKGROUP + thread;
  if (tile >= tile_count(problem.block_size, problem.block_height)) {
    return;
  }
  let block = tile_region(tile, problem.block_size, problem.block_height);
  let byte = scale_of(block, region_max(block));
  let per_row = problem.cols / problem.block_size;
  for (var row = block.row; row < block.row + block.height; row++) {
    store_scale(row * per_row + block.col / problem.block_size, byte);
  }
}
