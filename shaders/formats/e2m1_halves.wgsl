// E2M1 codes in kernel order to f16: as pairs of halves, with one multiplication for the scale. Needs shader-f16 and a
// device that keeps subnormal halves, as 0.5 is one on the way.

// Values of the eight codes of a word times `scale` · 2^-14, in order, two halves to a word.
fn halves8(word: u32, scale: vec2<f16>) -> vec4<u32> {
  let pairs = pairs8(word);
  return vec4<u32>(
    bitcast<u32>(bitcast<vec2<f16>>(pairs.x) * scale),
    bitcast<u32>(bitcast<vec2<f16>>(pairs.y) * scale),
    bitcast<u32>(bitcast<vec2<f16>>(pairs.z) * scale),
    bitcast<u32>(bitcast<vec2<f16>>(pairs.w) * scale),
  );
}
