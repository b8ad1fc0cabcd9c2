// Sums of four rows of x.

alias x_sums = vec4<f32>;

fn store_sums(column: u32, row: u32, sums: x_sums) {
  let at = column % COLUMNS * (32u * ROWS) + row % (8u * ROWS);
  column_sums[at] = sums.x;
  column_sums[at + 8u * ROWS] = sums.y;
  column_sums[at + 16u * ROWS] = sums.z;
  column_sums[at + 24u * ROWS] = sums.w;
}
