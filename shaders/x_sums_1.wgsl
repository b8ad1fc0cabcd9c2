// Sums of one row of x.

alias x_sums = f32;

fn store_sums(column: u32, row: u32, sums: x_sums) {
  column_sums[column % COLUMNS * (8u * ROWS) + row % (8u * ROWS)] = sums;
}
