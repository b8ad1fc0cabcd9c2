// y = accumulator · tensor scale + bias, or y += the same.
// y: y_type[m, columns]; row `col` of these weights gives column first_col + col of it

@group(0) @binding(5) var<storage, read_write> y: array<y_type>;

fn epilogue(value: f32, row: u32, col: u32) {
  let column = problem.first_col + col;
  let at = row * problem.columns + column;
  var result = with_row(value, col) * problem.global_scale;
  if (BIAS) {
    result += bias_of(column);
  }
  if (ACCUMULATE) {
    result += f32(y[at]);
  }
  y[at] = y_type(result);
}
