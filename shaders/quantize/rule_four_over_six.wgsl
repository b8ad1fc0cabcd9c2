// Four over six: maps the block's maximum to 6 or, with a scale 1.5 times as large, to 4, whichever has the smaller
// error against the original values; ties go to 6, and so do blocks where the elements' multiplier saturates.

const SIX = 0x40C00000u;
const ONE_AND_A_HALF = 0x3FC00000u;

// Error of a scale byte in x / s_dec, up to a factor that all bytes share: that in y times the scale (or its square)
// in units of 2^-9. Where the scale rounds to zero every value is lost.
fn scale_error(block: Region, byte: u32) -> ErrorSum {
  let absolute = problem.absolute == 1u;
  var sum = region_error(block, tensor.encode[byte], select(127u, COARSE_GRID, byte == 0u), absolute);
  // byte · 2^0 below 8, else (8 + mantissa) · 2^(exponent - 1).
  var significand = select(byte, 8u | (byte & 7u), byte >= 8u);
  var exponent = i32(max(byte >> 3u, 1u)) - 1;
  if (byte == 0u) {
    significand = 1u;
    exponent = 9;
  }
  if (absolute) {
    sum = weighted(sum, significand);
    sum.exponent += exponent;
  } else {
    sum = weighted(sum, significand * significand);
    sum.exponent += 2 * exponent;
  }
  return sum;
}

fn nv_block_byte(block: Region, largest: u32) -> u32 {
  let base = soft_mul(soft_div(largest, SIX), tensor.encode[0]);
  let six = encode_e4m3(base);
  let four = encode_e4m3(soft_mul(base, ONE_AND_A_HALF));
  if (six == four || (six > 0u && tensor.encode[six] == F32_MAX)) {
    return six;
  }
  let six_error = scale_error(block, six);
  let four_error = scale_error(block, four);
  return select(six, four, less(four_error, six_error));
}
