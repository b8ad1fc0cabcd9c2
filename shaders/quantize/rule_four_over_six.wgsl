// Four over six: maps the block's maximum to 6 or, with a scale 1.5 times as large, to 4, whichever has the smaller
// error against the original values; ties go to 6, and so do blocks where the elements' multiplier saturates.
//
// What decides are the integers of residuals.wgsl, as on the CPU, but only where estimates in floats are close: they are
// within 2^-14 of themselves and what a few roundings add, integers are low by less than 2^-11. Estimates are not
// trusted where small floats could be flushed, nor where a scale rounds to zero.

const SIX = 0x40C00000u;
const ONE_AND_A_HALF = 0x3FC00000u;
const FIRST_FIELD = 42u;
const SLACK = 1.0 + 0x1p-9;
// For up to 256 values, in steps of the grid.
const ROUNDINGS = 0x1p-10;
const SQUARED_ROUNDINGS = 0x1p-14;

// Error of a scale byte in x / s_dec, up to a factor that all bytes share: that in y times the scale (or its square)
// in units of 2^-9. Where the scale rounds to zero every value is lost.
fn scale_error(block: Block, byte: u32) -> ErrorSum {
  let absolute = problem.absolute == 1u;
  var sum = block_error(block, tensor.encode[byte], select(127u, COARSE_GRID, byte == 0u), absolute);
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

fn nv_block_byte(block: Block, largest: u32) -> u32 {
  let base = soft_mul(soft_div(largest, SIX), tensor.encode[0]);
  let six = encode_e4m3(base);
  let four = encode_e4m3(soft_mul(base, ONE_AND_A_HALF));
  if (six == four || (six > 0u && tensor.encode[six] == F32_MAX)) {
    return six;
  }
  if ((largest >> 23u) >= FIRST_FIELD && six > 0u) {
    let absolute = problem.absolute == 1u;
    let six_scale = bitcast<f32>(e4m3_bits(six));
    let four_scale = bitcast<f32>(e4m3_bits(four));
    let six_weight = select(six_scale * six_scale, six_scale, absolute);
    let four_weight = select(four_scale * four_scale, four_scale, absolute);
    let six_error = six_weight * estimated_error(block, bitcast<f32>(tensor.encode[six]), absolute);
    let four_error = four_weight * estimated_error(block, bitcast<f32>(tensor.encode[four]), absolute);
    let slack = four_weight * select(SQUARED_ROUNDINGS, ROUNDINGS, absolute);
    if (six_error > four_error * SLACK + slack) {
      return four;
    }
    if (four_error > six_error * SLACK + slack) {
      return six;
    }
  }
  return select(six, four, less(scale_error(block, four), scale_error(block, six)));
}
