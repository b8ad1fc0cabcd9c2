// A scale for each CHUNK_K values along k: the sums of these parts are added up in f32. An element of the running sums is
// only touched by one invocation.
// sums: f32[SPLIT_K, m, n]

@group(0) @binding(10) var<storage, read_write> sums: array<f32>;

const PART_STEPS = CHUNK_K / TILE_K;

fn part_of_step(step: u32) -> u32 {
  return step / PART_STEPS;
}

fn first_step_of(part: u32) -> u32 {
  return part * PART_STEPS;
}

fn add_part(value: f32, row: u32, col: u32, first: bool, last: bool) {
  let at = (part_of_k * problem.m + row) * problem.n + col;
  var sum = value;
  if (!first) {
    sum += sums[at];
  }
  if (last) {
    epilogue(sum, row, col);
  } else {
    sums[at] = sum;
  }
}
