// No Macro Block Scaling.

fn chunk_macro_byte(row: u32, chunk: u32) -> u32 {
  return 0u;
}

fn macro_scale(row: u32, block: u32) -> f32 {
  return 1.0;
}
