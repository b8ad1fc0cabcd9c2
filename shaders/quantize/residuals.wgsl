// Errors of quantization as integers, as in src/quantize/residuals.ts, so that searches choose like the CPU's: each
// residual | |y| - grid value | is exact, truncated to a unit that leaves the largest one a fixed number of bits, and
// the sum of those integers, or of their squares, is exact.

// Four times significand · 2^(exponent - 150) with a significand below 2^28, zero allowed.
struct Residuals {
  significand: vec4<u32>,
  exponent: vec4<i32>,
}

// Byte of a grid so coarse that every value rounds to 0.
const COARSE_GRID = 300u;

// Residuals of magnitudes y (field 255 being an exponent) on the grid of step 2^(byte - 127).
fn residuals4(y: vec4<u32>, byte: u32) -> Residuals {
  let wide = widen4(y);
  let field = wide >> vec4<u32>(23u);
  let significand = (wide & vec4<i32>(0x007FFFFF)) | vec4<i32>(0x00800000);
  let code = nearest4(wide + vec4<i32>((127 - i32(byte)) << 23u));
  // Twice the grid value: 0, 1, 2, 3, 4, 6, 8, 12.
  let doubled = select(
    (vec4<u32>(2u) | (code & vec4<u32>(1u))) << (max(code >> vec4<u32>(1u), vec4<u32>(1u)) - vec4<u32>(1u)),
    code,
    code < vec4<u32>(4u),
  );
  let grid_value = doubled << (vec4<u32>(vec4<i32>(i32(byte) + 22) - field) & vec4<u32>(31u));
  let lost = vec4<u32>(abs(significand - vec4<i32>(grid_value)));
  return Residuals(select(lost, vec4<u32>(0u), y == vec4<u32>(0u)), field);
}

// Above every exponent's negative, so that "no residual" is the smallest of all.
const NO_RESIDUAL = -1000;

// floor(log2) of the largest of four residuals, in units of 2^-150, or NO_RESIDUAL where nothing is lost.
fn largest4(r: Residuals) -> i32 {
  let logs = select(
    r.exponent + vec4<i32>(31) - vec4<i32>(countLeadingZeros(r.significand)),
    vec4<i32>(NO_RESIDUAL),
    r.significand == vec4<u32>(0u),
  );
  return max(max(logs.x, logs.y), max(logs.z, logs.w));
}

// Residuals in units of 2^unit.
fn truncate4(r: Residuals, unit: i32) -> vec4<u32> {
  let up = r.exponent - vec4<i32>(unit);
  let most = vec4<i32>(31);
  return select(
    r.significand >> vec4<u32>(clamp(-up, vec4<i32>(0), most)),
    r.significand << vec4<u32>(clamp(up, vec4<i32>(0), most)),
    up >= vec4<i32>(0),
  );
}

// A 64-bit integer times 2^exponent.
struct ErrorSum {
  high: u32,
  low: u32,
  exponent: i32,
}

fn add_to(sum: ErrorSum, high: u32, low: u32) -> ErrorSum {
  let next = sum.low + low;
  return ErrorSum(sum.high + high + u32(next < low), next, sum.exponent);
}

fn add_square(sum: ErrorSum, t: u32) -> ErrorSum {
  // t has up to 18 bits: its square is 16 q² + 8 q s + s².
  let q = t >> 2u;
  let s = t & 3u;
  return add_to(add_to(sum, (q * q) >> 28u, (q * q) << 4u), 0u, (8u * q + s) * s);
}

fn add4(start: ErrorSum, t: vec4<u32>, absolute: bool) -> ErrorSum {
  if (absolute) {
    // At most 24 bits each.
    return add_to(start, 0u, t.x + t.y + t.z + t.w);
  }
  return add_square(add_square(add_square(add_square(start, t.x), t.y), t.z), t.w);
}

// Unit of the sum for `count` residuals.
fn residual_unit(largest: i32, count: u32, absolute: bool) -> i32 {
  return largest - select(select(17, 15, count <= 128u), 23, absolute);
}

// sum · weight for a weight below 2^10.
fn weighted(sum: ErrorSum, weight: u32) -> ErrorSum {
  let low = (sum.low & 0xFFFFu) * weight;
  let middle = (sum.low >> 16u) * weight + (low >> 16u);
  return ErrorSum(sum.high * weight + (middle >> 16u), (middle << 16u) | (low & 0xFFFFu), sum.exponent);
}

fn normalized(sum: ErrorSum) -> ErrorSum {
  var s = sum;
  if (s.high == 0u) {
    s = ErrorSum(s.low, 0u, s.exponent - 32);
  }
  let shift = countLeadingZeros(s.high) & 31u;
  // Two shifts, as one by 32 is none.
  let carried = (s.low >> 1u) >> (31u - shift);
  return ErrorSum((s.high << shift) | carried, s.low << shift, s.exponent - i32(shift));
}

fn less(a: ErrorSum, b: ErrorSum) -> bool {
  if ((a.high | a.low) == 0u || (b.high | b.low) == 0u) {
    return (a.high | a.low) == 0u && (b.high | b.low) != 0u;
  }
  let p = normalized(a);
  let q = normalized(b);
  if (p.exponent != q.exponent) {
    return p.exponent < q.exponent;
  }
  return p.high < q.high || (p.high == q.high && p.low < q.low);
}
