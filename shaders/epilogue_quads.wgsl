// As epilogue.wgsl, four neighbouring columns at a time, where columns and first_col are multiples of four.
// y: y_type[m, columns]

@group(0) @binding(5) var<storage, read_write> y: array<vec4<y_type>>;

fn epilogue4(values: vec4<f32>, row: u32, col: u32) {
  let column = problem.first_col + col;
  let at = (row * problem.columns + column) / 4u;
  var result = vec4<f32>(
    with_row(values.x, col),
    with_row(values.y, col + 1u),
    with_row(values.z, col + 2u),
    with_row(values.w, col + 3u),
  ) * problem.global_scale;
  if (BIAS) {
    result += vec4<f32>(bias_of(column), bias_of(column + 1u), bias_of(column + 2u), bias_of(column + 3u));
  }
  if (ACCUMULATE) {
    result += vec4<f32>(y[at]);
  }
  y[at] = vec4<y_type>(result);
}
