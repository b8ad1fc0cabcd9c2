// Static macro factors for macro blocks of any height. A thread takes one macro block and stores its byte once per row.
// Features: none.

@compute @workgroup_size(WORKGROUP)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let tile = (workgroup.y * grid.x + workgroup.x) * WORKGROUP + thread;
  if (tile >= tile_count(problem.macro_size, problem.macro_height)) {
    return;
  }
  let region = tile_region(tile, problem.macro_size, problem.macro_height);
  let byte = static_factor(region_max(region));
  let per_row = (problem.cols + problem.macro_size - 1u) / problem.macro_size;
  for (var row = region.row; row < region.row + region.height; row++) {
    store_factor(row * per_row + region.col / problem.macro_size, byte);
  }
}
