// E2M1 codes to f32, in registers and by bit arithmetic alone.
//
// A code is s|eem. The three low bits, read as a number c in 0..7, stand for 0, 0.5, 1, 1.5, 2, 3, 4, 6. As f16 these
// are the high bytes 00 38 3C 3E 40 42 44 46 over a zero low byte: 0x38 + 2c from c = 2 on, 0x38 for c = 1. Four codes
// are turned into four such bytes at once, and unpack2x16float makes f32 of them. No value on the way is subnormal,
// so a device that flushes subnormals decodes right.
//
// Dropped: a value table indexed by the code, which becomes an array in local memory (several times slower);
// f16 bits c << 9 times 2^14 (fewer operations, but 0.5 is subnormal on the way).

// `codes` has one code in the low nibble of each byte; returns the high byte of each code's f16.
fn e2m1_high_bytes(codes: u32) -> u32 {
  let c = codes & 0x07070707u;
  let nonzero = (c + 0x07070707u) & 0x08080808u;
  let from_two = (c + 0x06060606u) & 0x08080808u;
  // Per byte: 8 · 7 = 0x38 where c > 0; 2c where c > 1 (the mask is 16 - 2 = 0x0E); the sign moves from bit 3 to 7.
  let magnitude = nonzero * 7u + ((c << 1u) & ((from_two << 1u) - (from_two >> 2u)));
  return magnitude | ((codes & 0x08080808u) << 4u);
}

// Values of the eight codes of a word, lowest nibble first: [0] the first four, [1] the last four.
fn dequant8(word: u32) -> array<vec4<f32>, 2> {
  let even = e2m1_high_bytes(word & 0x0F0F0F0Fu);
  let odd = e2m1_high_bytes((word >> 4u) & 0x0F0F0F0Fu);
  // Byte j of `even` is code 2j, of `odd` code 2j + 1; pair them as the halves of a word.
  let a = unpack2x16float(((even & 0xFFu) << 8u) | ((odd & 0xFFu) << 24u));
  let b = unpack2x16float((even & 0xFF00u) | ((odd & 0xFF00u) << 16u));
  let c = unpack2x16float(((even >> 8u) & 0xFF00u) | ((odd << 8u) & 0xFF000000u));
  let d = unpack2x16float(((even >> 16u) & 0xFF00u) | (odd & 0xFF000000u));
  return array<vec4<f32>, 2>(vec4<f32>(a, b), vec4<f32>(c, d));
}
