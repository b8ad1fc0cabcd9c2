// Sums of two rows of x. Those of columns meet in memory of their own.

alias x_sums = vec2<f32>;

const SUMS_IN_SLAB = 0u;

fn store_sums(column: u32, row: u32, sums: x_sums) {
  let at = column % COLUMNS * (16u * ROWS) + row % (8u * ROWS);
  column_sums[at] = sums.x;
  column_sums[at + 8u * ROWS] = sums.y;
}
