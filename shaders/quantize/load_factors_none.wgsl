// No macro factors: every factor is 1.

fn factor_byte(row: u32, col: u32) -> u32 {
  return 0u;
}
