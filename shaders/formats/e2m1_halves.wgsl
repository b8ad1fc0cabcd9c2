// E2M1 codes in kernel order to f16: a mask and at most two shifts bring a pair of codes to where two halves are their
// values · 2^-14 (see src/matrix/pack.ts); one multiplication applies the scale. Needs shader-f16 and a device that
// keeps subnormal halves, as 0.5 is one on the way.

// Values of the eight codes of a word times `scale` · 2^-14, in order, two halves to a word.
fn halves8(word: u32, scale: vec2<f16>) -> vec4<u32> {
  let pair0 = word & 0x8E008E00u;
  let pair1 = (word << 3u) & 0x8E008E00u;
  let pair2 = ((word << 1u) & 0x80008000u) | ((word << 6u) & 0x0E000E00u);
  let pair3 = ((word << 2u) & 0x80008000u) | ((word << 9u) & 0x0E000E00u);
  return vec4<u32>(
    bitcast<u32>(bitcast<vec2<f16>>(pair0) * scale),
    bitcast<u32>(bitcast<vec2<f16>>(pair1) * scale),
    bitcast<u32>(bitcast<vec2<f16>>(pair2) * scale),
    bitcast<u32>(bitcast<vec2<f16>>(pair3) * scale),
  );
}
