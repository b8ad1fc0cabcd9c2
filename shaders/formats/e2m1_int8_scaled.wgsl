// E2M1 codes in kernel order to int8, each block times a multiplier: four values at a time in the bytes of a word.
//
// A value is round(doubled · multiplier / 256) with the code's sign, where doubled is twice the code's magnitude, 0..12,
// and multiplier · 12 < 2^15, so that neither the products nor the values, at most 127, reach their neighbours.

// Bytes c of `eem` are 0..7, bytes of `sign` are 0, or 1 for negative codes.
fn scaled4(eem: u32, sign: u32, multiplier: u32) -> u32 {
  // 0..3 stay, 4, 5, 6, 7 become 4, 6, 8, 12: c, plus its low two bits where c >= 4, plus 2 where they are 3.
  let low = eem & (((eem >> 2u) & 0x01010101u) * 3u);
  let doubled = eem + low + ((low << 1u) & low & 0x02020202u);
  let even = (doubled & 0x00FF00FFu) * multiplier + 0x00800080u;
  let odd = ((doubled >> 8u) & 0x00FF00FFu) * multiplier + 0x00800080u;
  let value = ((even >> 8u) & 0x00FF00FFu) | (odd & 0xFF00FF00u);
  // -v is 128 - v with bit 7 inverted; 127 - v + 1 carries nothing to the next byte, not even for v = 0.
  return ((value ^ (sign * 127u)) + sign) ^ (sign << 7u);
}

// Codes c0..c7 of a word as bytes c6 c0 c7 c1 and c4 c2 c5 c3: where masks and a shift find them.
fn scaled8(word: u32, multiplier: u32) -> vec2<u32> {
  return vec2<u32>(
    scaled4(
      (word & 0x00070007u) | ((word >> 1u) & 0x07000700u),
      ((word >> 13u) & 0x00010001u) | ((word >> 7u) & 0x01000100u),
      multiplier,
    ),
    scaled4(
      ((word >> 3u) & 0x00070007u) | ((word << 2u) & 0x07000700u),
      ((word >> 14u) & 0x00010001u) | ((word >> 4u) & 0x01000100u),
      multiplier,
    ),
  );
}
