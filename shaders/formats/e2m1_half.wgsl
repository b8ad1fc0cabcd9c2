// E2M1 codes in kernel order to f32, through f16: as pairs of halves, of which unpack2x16float makes f32. 11 integer
// operations and 4 conversions for eight codes.
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
  let pairs = pairs8(word);
  return array<vec4<f32>, 2>(
    vec4<f32>(unpack2x16float(pairs.x), unpack2x16float(pairs.y)),
    vec4<f32>(unpack2x16float(pairs.z), unpack2x16float(pairs.w)),
  );
}
