// NVFP4 block scales, for tiles of any height. A thread takes one tile and stores its byte once per row.
// Features: none.

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
  let largest = region_max(block);
  var byte = 0x7Fu;
  if (largest < F32_INFINITY) {
    byte = nv_block_byte(block, largest);
  }
  let per_row = problem.cols / problem.block_size;
  for (var row = block.row; row < block.row + block.height; row++) {
    store_scale(row * per_row + block.col / problem.block_size, byte);
  }
}
