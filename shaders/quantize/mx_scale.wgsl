// MXFP4's scale rules.

// Byte of a block with the largest magnitude `largest` (field 255 being an exponent): p - 2, one more where the rule's
// bump carries, at least 0.
fn mx_scale_byte(largest: u32, bump: u32) -> u32 {
  return max((largest + bump) >> 23u, 2u) - 2u;
}
