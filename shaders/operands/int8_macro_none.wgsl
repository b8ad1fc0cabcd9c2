// x without macro factors.

fn x_macro(row: u32, block: u32) -> f32 {
  return 1.0;
}
