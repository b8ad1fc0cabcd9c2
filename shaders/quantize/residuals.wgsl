// Errors of quantization as integers, as in src/quantize/residuals.ts, so that searches choose like the CPU's: each
// residual | |y| - grid value | is exact, truncated to a unit that leaves the largest one a fixed number of bits, and
// the sum of those integers, or of their squares, is exact.

// significand · 2^(exponent - 150) with a significand below 2^28, zero allowed.
struct Residual {
  significand: u32,
  exponent: i32,
}

// Byte of a grid so coarse that every value rounds to 0.
const COARSE_GRID = 300u;

// Residual of a magnitude y (field 255 being an exponent) on the grid of step 2^(byte - 127).
fn residual(y: u32, byte: u32) -> Residual {
  if (y == 0u) {
    return Residual(0u, 0);
  }
  let wide = widen(y);
  let field = wide >> 23u;
  let significand = u32(wide & 0x007FFFFF) | 0x00800000u;
  let code = nearest4(vec4<i32>(wide + ((127 - i32(byte)) << 23u))).x;
  if (code == 0u) {
    return Residual(significand, field);
  }
  // Twice the grid value: 1, 2, 3, 4, 6, 8, 12.
  let doubled = select((2u | (code & 1u)) << ((code >> 1u) - 1u), code, code < 4u);
  let grid_value = i32(doubled << u32(i32(byte) + 22 - field));
  return Residual(u32(abs(i32(significand) - grid_value)), field);
}

// Above every exponent's negative, so that "no residual" is the smallest of all.
const NO_RESIDUAL = -1000;

// floor(log2) of the largest residual of a region, in units of 2^-150, or NO_RESIDUAL where nothing is lost.
fn largest_residual(region: Region, factor: u32, byte: u32) -> i32 {
  var largest = NO_RESIDUAL;
  for (var row = region.row; row < region.row + region.height; row++) {
    let first = (row * problem.cols + region.col) / 4u;
    for (var i = 0u; i < region.width; i++) {
      let r = residual(scaled_magnitude(x[first + i / 4u][i % 4u], factor), byte);
      if (r.significand > 0u) {
        largest = max(largest, r.exponent + 31 - i32(countLeadingZeros(r.significand)));
      }
    }
  }
  return largest;
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

// `sum` plus the residuals of a region in units of 2^unit, as squares or (absolute) as they are.
fn add_residuals(start: ErrorSum, region: Region, factor: u32, byte: u32, unit: i32, absolute: bool) -> ErrorSum {
  var sum = start;
  for (var row = region.row; row < region.row + region.height; row++) {
    let first = (row * problem.cols + region.col) / 4u;
    for (var i = 0u; i < region.width; i++) {
      let r = residual(scaled_magnitude(x[first + i / 4u][i % 4u], factor), byte);
      let up = r.exponent - unit;
      var t = 0u;
      if (up >= 0) {
        t = r.significand << u32(min(up, 31));
      } else if (up > -32) {
        t = r.significand >> u32(-up);
      }
      if (absolute) {
        sum = add_to(sum, 0u, t);
      } else {
        // t has up to 18 bits: its square is 16 q² + 8 q s + s².
        let q = t >> 2u;
        let s = t & 3u;
        sum = add_to(sum, (q * q) >> 28u, (q * q) << 4u);
        sum = add_to(sum, 0u, (8u * q + s) * s);
      }
    }
  }
  return sum;
}

// Unit of the sum for `count` residuals, and the exponent of the sum in that unit.
fn residual_unit(largest: i32, count: u32, absolute: bool) -> i32 {
  return largest - select(select(17, 15, count <= 128u), 23, absolute);
}

fn region_error(region: Region, factor: u32, byte: u32, absolute: bool) -> ErrorSum {
  let largest = largest_residual(region, factor, byte);
  if (largest == NO_RESIDUAL) {
    return ErrorSum(0u, 0u, 0);
  }
  let unit = residual_unit(largest, region.width * region.height, absolute);
  return add_residuals(ErrorSum(0u, 0u, select(2 * unit, unit, absolute)), region, factor, byte, unit, absolute);
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
