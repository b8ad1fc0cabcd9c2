// All of k shares a scale: integer sums are complete and go to y at once.

fn part_of_step(step: u32) -> u32 {
  return 0u;
}

fn first_step_of(part: u32) -> u32 {
  return select(0u, 0xFFFFFFFFu, part > 0u);
}

fn add_part(value: f32, row: u32, col: u32, first: bool, last: bool) {
  epilogue(value, row, col);
}
