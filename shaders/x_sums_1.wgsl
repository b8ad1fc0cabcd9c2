// Sums of one row of x. Those of columns meet in memory of their own.

alias x_sums = f32;

const SUMS_IN_SLAB = 0u;

fn store_sums(column: u32, row: u32, sums: x_sums) {
  column_sums[column % COLUMNS * (8u * ROWS) + row % (8u * ROWS)] = sums;
}
