// Four neighbouring columns one by one, for rows of y that are not whole vec4s.

fn epilogue4(values: vec4<f32>, row: u32, col: u32) {
  for (var c = 0u; c < 4u; c++) {
    if (col + c < problem.n) {
      epilogue(values[c], row, col + c);
    }
  }
}
