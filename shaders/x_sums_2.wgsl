// Sums of two rows of x. Those of columns meet in memory of their own.

alias x_sums = vec2<f32>;

const SUMS_IN_SLAB = 0u;

var<workgroup> column_sums: array<x_sums, THREADS * ROWS>;

fn put_sums(column: u32, row: u32, sums: x_sums) {
  column_sums[column % COLUMNS * (8u * ROWS) + row % (8u * ROWS)] = sums;
}

fn get_sums(column: u32, row: u32) -> x_sums {
  return column_sums[column % COLUMNS * (8u * ROWS) + row % (8u * ROWS)];
}

fn store_sums(sums: x_sums, first_row: u32, col: u32) {
  store(sums.x, first_row, col);
  store(sums.y, first_row + 1u, col);
}
