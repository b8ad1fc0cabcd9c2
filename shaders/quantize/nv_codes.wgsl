// NVFP4's codes: of y = fl32(x · encode), encode a function of the block's scale byte and the tensor.
//
// A product in floats is one of the two neighbours of the exact one: where no midpoint of E2M1 is within three units of
// its last place, it has y's code. Other products, and those under multipliers that bring up what a GPU may flush, are
// computed with integers.

const MOST_ENCODE = 0x7B000000u;

struct Codes {
  codes: vec4<u32>,
  unsure: bool,
}

fn likely_codes(v: vec4<u32>, encode: f32) -> Codes {
  let z = bitcast<vec4<f32>>(v) * encode;
  // Below 1 the grid has the steps that it has from 1 to 2.
  let below = z < vec4<f32>(1.0);
  let up = bitcast<vec4<u32>>(select(z, z + vec4<f32>(1.0), below)) + vec4<u32>(0x00200000u);
  let codes = (up >> vec4<u32>(22u)) - select(vec4<u32>(252u), vec4<u32>(254u), below);
  let near = (up + vec4<u32>(3u)) & vec4<u32>(0x003FFFFFu);
  return Codes(min(codes, vec4<u32>(7u)), min(min(near.x, near.y), min(near.z, near.w)) < 7u);
}

fn nv_codes(values: Eight, byte: u32, word: u32) -> u32 {
  if (byte == 0u) {
    return 0u;
  }
  let encode = tensor.encode[byte];
  if (!STOCHASTIC && encode < MOST_ENCODE) {
    let low = likely_codes(values.low & vec4<u32>(F32_MAGNITUDE), bitcast<f32>(encode));
    let high = likely_codes(values.high & vec4<u32>(F32_MAGNITUDE), bitcast<f32>(encode));
    if (!(low.unsure || high.unsure)) {
      return pack8(values, low.codes, high.codes);
    }
  }
  return encode8(
    values,
    widen4(scaled_magnitudes(values.low, encode)),
    widen4(scaled_magnitudes(values.high, encode)),
    word,
  );
}
