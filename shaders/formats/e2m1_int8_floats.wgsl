// E2M1 codes in kernel order to int8 times a factor, through f32: as e2m1_int8_halves.wgsl for devices without f16.
//
// Floats around 1.5 · 2^23 are integers, whose low byte is the sum of the bits' and that of the added constant. With 128
// added, bytes are positive and add up to a word without borrows; flipping their highest bits takes it off again.

alias int8_scale = f32;

// Decoded values are in units of DECODED_UNIT, and integers stand for sixteenths of a code.
fn int8_factor(scale: f32) -> int8_scale {
  return scale * (16.0 * DECODED_UNIT);
}

fn int8x4(a: vec2<f32>, b: vec2<f32>, factor: f32) -> u32 {
  const MAGIC = vec2<f32>(12582912.0 + 128.0);
  // What is above the low bytes of the shifted words: bits of 1.5 · 2^23 twice, as the other two leave the word.
  const SURPLUS = 0x8B400000u;
  let p = bitcast<vec2<u32>>(fma(a, vec2<f32>(factor), MAGIC));
  let q = bitcast<vec2<u32>>(fma(b, vec2<f32>(factor), MAGIC));
  return (p.x + (q.x << 8u) + (p.y << 16u) + (q.y << 24u) - SURPLUS) ^ 0x80808080u;
}

// Codes c0..c7 of a word as bytes c6 c0 c7 c1 and c4 c2 c5 c3.
fn int8x8(word: u32, factor: int8_scale) -> vec2<u32> {
  let values = dequant8(word);
  return vec2<u32>(
    int8x4(values[1].zw, values[0].xy, factor),
    int8x4(values[1].xy, values[0].zw, factor),
  );
}
