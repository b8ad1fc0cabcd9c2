// No Macro Block Scaling.

fn macro_scale(row: u32, block: u32) -> f32 {
  return 1.0;
}
