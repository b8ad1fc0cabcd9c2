// Weights as BF16, two to a word, the first one in the low half: four of them at a time. A BF16 is the upper half of an
// f32, so that nothing is rounded and no feature is needed.

alias W4 = vec2<u32>;

fn floats(w: W4) -> vec4<f32> {
  let low = w << vec2<u32>(16u);
  let high = w & vec2<u32>(0xffff0000u);
  return bitcast<vec4<f32>>(vec4<u32>(low.x, high.x, low.y, high.y));
}
