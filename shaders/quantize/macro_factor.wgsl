// Macro Block Scaling: factors f = 1 + m/256 (E0M8) by which values are multiplied before block quantization.

// fl32(v · (1 + m/256)) for four magnitudes, as bits in which exponent field 255 is an exponent like any other:
// the product may reach 2^129. The integer part of significand · f fits 25 bits, the eight bits below decide rounding.
fn scale_up4(v: vec4<u32>, m: u32) -> vec4<u32> {
  let field = max(v >> vec4<u32>(23u), vec4<u32>(1u));
  let base = (field - vec4<u32>(1u)) << vec4<u32>(23u);
  let significand = v - base;
  let product = significand * m;
  let whole = significand + (product >> vec4<u32>(8u));
  let carry = whole >> vec4<u32>(24u);
  let floor = whole >> carry;
  // What is below the last place: eight bits, or nine after a carry.
  let rest = ((whole & carry) << vec4<u32>(8u)) | (product & vec4<u32>(255u));
  let half = vec4<u32>(128u) << carry;
  let up = (rest + (floor & vec4<u32>(1u))) > half;
  return base + (carry << vec4<u32>(23u)) + floor + select(vec4<u32>(0u), vec4<u32>(1u), up);
}

fn scale_up(v: u32, m: u32) -> u32 {
  return scale_up4(vec4<u32>(v), m).x;
}

// Static factor of a macro block with the largest magnitude `largest`: the largest m with 1 + m/256 ≤ (6/A) · 2^j,
// j the integer that brings the right side into [1, 2). 0 for zeros, and where a value is not finite.
fn static_factor(largest: u32) -> u32 {
  if (largest == 0u || largest >= 0x7F800000u) {
    return 0u;
  }
  // A = significand · 2^e: the numerator over it is (6/A) · 2^j.
  let shift = max(countLeadingZeros(largest), 8u) - 8u;
  let significand = ((largest << shift) & 0x007FFFFFu) | 0x00800000u;
  let numerator = select(0x01800000u, 0x00C00000u, significand <= 0x00C00000u);
  return ((numerator - significand) << 8u) / significand;
}
