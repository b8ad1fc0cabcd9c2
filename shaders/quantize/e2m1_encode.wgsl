// E2M1 codes of magnitudes.
//
// A magnitude is given "wide": as an i32 with 23 bits of mantissa below a signed exponent, biased by 127, so that
// normal f32 are their own bits, what is subnormal is normalized (negative fields), and multiplying by 2^n is adding
// n << 23. Wide numbers order like what they stand for. Zero becomes 2^-151, which every grid here rounds to 0.

fn widen4(v: vec4<u32>) -> vec4<i32> {
  let shift = max(countLeadingZeros(v), vec4<u32>(8u)) - vec4<u32>(8u);
  return vec4<i32>(v << shift) - vec4<i32>(shift << vec4<u32>(23u));
}

fn widen(v: u32) -> i32 {
  let shift = max(countLeadingZeros(v), 8u) - 8u;
  return i32(v << shift) - i32(shift << 23u);
}

// Codes 0..7 of the nearest grid values, ties to the even code, saturating. From 1 on a code is the exponent and the
// first mantissa bit, rounded there; below 1 the grid is 0, 0.5, 1.
fn nearest4(t: vec4<i32>) -> vec4<u32> {
  let bit = (t >> vec4<u32>(22u)) & vec4<i32>(1);
  let from_one = min(((t + bit + vec4<i32>(0x001FFFFF)) >> vec4<u32>(22u)) - vec4<i32>(252), vec4<i32>(7));
  let below_one = select(vec4<i32>(0), vec4<i32>(1), t > vec4<i32>(0x3E800000)) +
    select(vec4<i32>(0), vec4<i32>(1), t >= vec4<i32>(0x3F400000));
  return vec4<u32>(select(below_one, from_one, t >= vec4<i32>(0x3F800000)));
}
