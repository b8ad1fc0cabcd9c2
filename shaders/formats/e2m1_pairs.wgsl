// E2M1 codes in kernel order as pairs of halves: a mask and at most two shifts bring a pair of codes to where two halves are
// their values · 2^-14 (see src/matrix/pack.ts). The code 0.5 is a subnormal half there.

// The eight codes of a word in order, two halves to a word.
fn pairs8(word: u32) -> vec4<u32> {
  return vec4<u32>(
    word & 0x8E008E00u,
    (word << 3u) & 0x8E008E00u,
    ((word << 1u) & 0x80008000u) | ((word << 6u) & 0x0E000E00u),
    ((word << 2u) & 0x80008000u) | ((word << 9u) & 0x0E000E00u),
  );
}
