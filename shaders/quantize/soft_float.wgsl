// IEEE 754 binary32 arithmetic on bit patterns: round to nearest, ties to even, subnormals kept, overflow to infinity.
// WGSL fixes no rounding mode, may flush subnormals and divides to 2.5 ULP; integers do none of that.
// An operand that is not finite gives NaN; so would 0 · Inf, and no caller needs to tell them apart.

// Magnitude significand · 2^(exponent - 150), with significand in [2^23, 2^24) also for subnormals; not for zero.
struct Unpacked {
  significand: u32,
  exponent: i32,
}

fn unpack(bits: u32) -> Unpacked {
  let magnitude = bits & F32_MAGNITUDE;
  if (magnitude < 0x00800000u) {
    let shift = countLeadingZeros(magnitude) - 8u;
    return Unpacked(magnitude << (shift & 31u), 1 - i32(shift));
  }
  return Unpacked((magnitude & 0x007FFFFFu) | 0x00800000u, i32(magnitude >> 23u));
}

// value >> shift, with the lowest bit set where a bit was lost.
fn shift_right_jam(value: u32, shift: u32) -> u32 {
  if (shift > 31u) {
    return u32(value != 0u);
  }
  return (value >> shift) | u32((value & ((1u << shift) - 1u)) != 0u);
}

// sign | significand / 2^30 · 2^(exponent - 127) rounded; significand in [2^30, 2^31), its lowest bit sticky.
fn round_pack(sign: u32, exponent: i32, significand: u32) -> u32 {
  if (exponent > 254) {
    return sign | F32_INFINITY;
  }
  let wide = shift_right_jam(significand, u32(max(1 - exponent, 0)));
  let rest = wide & 127u;
  let floor = wide >> 7u;
  let rounded = floor + u32(rest > 64u || (rest == 64u && (floor & 1u) == 1u));
  // The leading bit adds one to the exponent field; so does a carry.
  return sign | ((u32(max(exponent, 1) - 1) << 23u) + rounded);
}

fn soft_mul(a: u32, b: u32) -> u32 {
  let sign = (a ^ b) & F32_SIGN;
  let larger = max(a & F32_MAGNITUDE, b & F32_MAGNITUDE);
  if (larger >= F32_INFINITY) {
    return F32_NAN;
  }
  if (min(a & F32_MAGNITUDE, b & F32_MAGNITUDE) == 0u) {
    return sign;
  }
  let x = unpack(a);
  let y = unpack(b);
  // 48 bits as high · 2^24 + low, from halves of twelve bits.
  let xh = x.significand >> 12u;
  let xl = x.significand & 0xFFFu;
  let yh = y.significand >> 12u;
  let yl = y.significand & 0xFFFu;
  let middle = xh * yl + xl * yh;
  let low = ((middle & 0xFFFu) << 12u) + xl * yl;
  let high = xh * yh + (middle >> 12u) + (low >> 24u);
  let product = (high << 7u) | ((low >> 17u) & 127u) | u32((low & 0x1FFFFu) != 0u);
  let carry = product >> 30u;
  return round_pack(sign, x.exponent + y.exponent - 127 + i32(carry), product << (1u - carry));
}

fn soft_add(a: u32, b: u32) -> u32 {
  let swap = (b & F32_MAGNITUDE) > (a & F32_MAGNITUDE);
  let large = select(a, b, swap);
  let small = select(b, a, swap);
  let large_field = (large >> 23u) & 255u;
  let small_field = (small >> 23u) & 255u;
  if (large_field == 255u) {
    return F32_NAN;
  }
  let large_significand = ((large & 0x007FFFFFu) | select(0u, 0x00800000u, large_field > 0u)) << 6u;
  let small_significand = ((small & 0x007FFFFFu) | select(0u, 0x00800000u, small_field > 0u)) << 6u;
  let exponent = max(large_field, 1u);
  let aligned = shift_right_jam(small_significand, exponent - max(small_field, 1u));
  let sum = select(large_significand + aligned, large_significand - aligned, ((a ^ b) & F32_SIGN) != 0u);
  if (sum == 0u) {
    return a & b & F32_SIGN;
  }
  let shift = countLeadingZeros(sum) - 1u;
  return round_pack(large & F32_SIGN, i32(exponent) + 1 - i32(shift), sum << shift);
}

// a / b for b other than zero.
fn soft_div(a: u32, b: u32) -> u32 {
  let sign = (a ^ b) & F32_SIGN;
  if (max(a & F32_MAGNITUDE, b & F32_MAGNITUDE) >= F32_INFINITY) {
    return F32_NAN;
  }
  if ((a & F32_MAGNITUDE) == 0u) {
    return sign;
  }
  let x = unpack(a);
  let y = unpack(b);
  let less = u32(x.significand < y.significand);
  var rest = x.significand << less;
  var quotient = 0u;
  // 26 bits: 24, one to round by, and one that the sticky bit follows.
  for (var i = 0u; i < 26u; i++) {
    let bit = u32(rest >= y.significand);
    quotient = (quotient << 1u) | bit;
    rest = (rest - bit * y.significand) << 1u;
  }
  return round_pack(sign, x.exponent - y.exponent + 127 - i32(less), (quotient << 5u) | u32(rest != 0u));
}
