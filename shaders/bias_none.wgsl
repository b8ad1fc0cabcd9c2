// No bias.

fn bias_of(col: u32) -> f32 {
  return 0.0;
}
