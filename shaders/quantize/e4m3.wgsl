// E4M3 block scales, non-negative: bytes 0..0x7E.

// f32 bits of a byte, exact.
fn e4m3_bits(byte: u32) -> u32 {
  if (byte < 8u) {
    // Subnormal: byte · 2^-9.
    let top = 31u - countLeadingZeros(max(byte, 1u));
    return select(((118u + top) << 23u) | ((byte << (23u - top)) & 0x007FFFFFu), 0u, byte == 0u);
  }
  return (byte << 20u) + (120u << 23u);
}

// Nearest byte of a non-negative f32, ties to even; saturates at 448, Inf too.
fn encode_e4m3(bits: u32) -> u32 {
  if (bits >= (121u << 23u)) {
    return min(((min(bits, 0x7F800000u) + ((bits >> 20u) & 1u) + 0x7FFFFu) >> 20u) - 960u, 0x7Eu);
  }
  // Below 2^-6: multiples of 2^-9, none from 2^-11 down.
  let field = bits >> 23u;
  if (field < 116u) {
    return 0u;
  }
  let significand = (bits & 0x007FFFFFu) | 0x00800000u;
  let shift = 141u - field;
  let floor = significand >> shift;
  let rest = significand & ((1u << shift) - 1u);
  let half = 1u << (shift - 1u);
  return floor + u32(rest + (floor & 1u) > half);
}
