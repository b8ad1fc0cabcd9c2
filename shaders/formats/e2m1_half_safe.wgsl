// E2M1 codes in kernel order to f32 without a subnormal on the way, for devices that flush them.
//
// A half of a pair has eem, read as c in 0..7, in bits 11..9. As f16 the magnitudes 0, 0.5, 1, 1.5, 2, 3, 4, 6 are
// 0x0000, 0x3800, 0x3C00, 0x3E00, …, 0x4600: 0x3800 + (c << 9) from c = 2 on, 0x3800 for c = 1.

const DECODED_UNIT = 1.0;

// `pair` has s at bit 15 and eem at bits 11..9 of each half; returns the two as f32.
fn decode_pair(pair: u32) -> vec2<f32> {
  let c = pair & 0x0E000E00u;
  // Bit 12 of a half is set where c > 0, and where c > 1.
  let nonzero = (c + 0x0E000E00u) & 0x10001000u;
  let from_two = (c + 0x0C000C00u) & 0x10001000u;
  let magnitude = (nonzero >> 12u) * 0x3800u + (c & ((from_two >> 12u) * 0x0E00u));
  return unpack2x16float((pair & 0x80008000u) | magnitude);
}

fn dequant8(word: u32) -> array<vec4<f32>, 2> {
  return array<vec4<f32>, 2>(
    vec4<f32>(decode_pair(word & 0x8E008E00u), decode_pair((word << 3u) & 0x8E008E00u)),
    vec4<f32>(
      decode_pair(((word << 1u) & 0x80008000u) | ((word << 6u) & 0x0E000E00u)),
      decode_pair(((word << 2u) & 0x80008000u) | ((word << 9u) & 0x0E000E00u)),
    ),
  );
}
