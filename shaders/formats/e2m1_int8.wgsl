// E2M1 codes to int8: twice their values, 0, ±1, ±2, ±3, ±4, ±6, ±8, ±12, four to a word, all four at once.

// Bytes c of `eem` are 0..7, bit 7 of bytes of `sign` is set for negative values, all other bits are 0.
fn doubled4(eem: u32, sign: u32) -> u32 {
  // 0..3 stay, 4, 5, 6, 7 become 4, 6, 8, 12: c, plus its low two bits where c >= 4, plus 2 where they are 3.
  let low = eem & (((eem >> 2u) & 0x01010101u) * 3u);
  let magnitude = eem + low + (low & (low << 1u) & 0x02020202u);
  // -v is 128 - v with bit 7 inverted; 127 - v + 1 carries nothing to the next byte, not even for v = 0.
  let one = sign >> 7u;
  return ((magnitude ^ (sign - one)) + one) ^ sign;
}

// Codes c0..c7 of a word in kernel order (src/matrix/pack.ts) as bytes c6 c0 c7 c1 and c4 c2 c5 c3: where masks and a
// shift find them. 39 integer operations.
fn doubled8(word: u32) -> vec2<u32> {
  return vec2<u32>(
    doubled4(
      (word & 0x00070007u) | ((word >> 1u) & 0x07000700u),
      ((word >> 6u) & 0x00800080u) | (word & 0x80008000u),
    ),
    doubled4(
      ((word >> 3u) & 0x00070007u) | ((word << 2u) & 0x07000700u),
      ((word >> 7u) & 0x00800080u) | ((word << 3u) & 0x80008000u),
    ),
  );
}
