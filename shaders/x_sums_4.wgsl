// Sums of four rows of x. Those of columns meet where x was: with less memory, more workgroups share a core.

alias x_sums = vec4<f32>;

const SUMS_IN_SLAB = THREADS * ROWS;

fn store_sums(column: u32, row: u32, sums: x_sums) {
  x_slab[column % COLUMNS * (8u * ROWS) + row % (8u * ROWS)] = bitcast<slab_vector>(sums);
}

fn get_sums(column: u32, row: u32) -> x_sums {
  return bitcast<vec4<f32>>(x_slab[column % COLUMNS * (8u * ROWS) + row % (8u * ROWS)]);
}

fn store(sum: f32, row: u32, col: u32) {
  if (row < problem.m && col < problem.n) {
    epilogue(sum, row, col);
  }
}

fn finish_sums(sums: x_sums, first_row: u32, col: u32) {
  store(sums.x, first_row, col);
  store(sums.y, first_row + 1u, col);
  store(sums.z, first_row + 2u, col);
  store(sums.w, first_row + 3u, col);
}
