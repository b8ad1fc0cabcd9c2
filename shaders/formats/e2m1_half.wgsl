// E2M1 codes in kernel order to f32, through f16: a mask and at most two shifts give two halves that are the codes'
// values · 2^-14, and unpack2x16float makes f32 of them. 11 integer operations and 4 conversions for eight codes.
//
// The value 0.5 is a subnormal half on the way. Devices that flush those (asked once, see `src/gpu/probe.ts`) are given
// e2m1_half_safe.wgsl instead.
//
// Dropped: a value table indexed by the code (an array in local memory, several times slower); canonical bit order,
// which takes 20 operations more for eight codes (10.0 against 7.5 µs for a GEMV of 4096 × 4096 on an H200).

// What decoded values have to be multiplied by.
const DECODED_UNIT = 16384.0;

// Values of the eight codes of a word in units of DECODED_UNIT: [0] codes 0..3, [1] codes 4..7.
fn dequant8(word: u32) -> array<vec4<f32>, 2> {
  let pair0 = word & 0x8E008E00u;
  let pair1 = (word << 3u) & 0x8E008E00u;
  let pair2 = ((word << 1u) & 0x80008000u) | ((word << 6u) & 0x0E000E00u);
  let pair3 = ((word << 2u) & 0x80008000u) | ((word << 9u) & 0x0E000E00u);
  return array<vec4<f32>, 2>(
    vec4<f32>(unpack2x16float(pair0), unpack2x16float(pair1)),
    vec4<f32>(unpack2x16float(pair2), unpack2x16float(pair3)),
  );
}
