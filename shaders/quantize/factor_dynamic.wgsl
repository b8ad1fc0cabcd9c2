// Dynamic macro factors, in one pass with the rest: m = 16 j, j = 0..15, with the least squared error of the quantized
// macro block, ties to the smaller.
//
// What decides are the integers of residuals.wgsl, as on the CPU, but only between candidates that an estimate in
// floats leaves: the error in x is estimated within 2^-14 of itself, and a little that a few roundings of the largest
// values add; integers are low by less than 2^-11. So a candidate whose estimate is 2^-9 above another's cannot win.
// Mostly one is left. Estimates are not trusted where small floats could be flushed: there all sixteen are left.
//
// Measured on an NVIDIA H200 for 16384 × 4096 values: 827 µs with factors of 128 values, 883 of 64, 941 of 32, where a
// copy of the same bytes takes 74. Before, sixteen threads a macro block tried a candidate each on values read from memory, twice over and with integers
// alone, in a dispatch of its own: 12.6 ms.
//
// Macro blocks of at most 128 values, in subgroups of at least MACRO_THREADS invocations. Feature: subgroups.

const CANDIDATES = 16u;
// Least exponent field of the largest magnitude for estimates: what is flushed then is 2^-40 of it.
const FIRST_FIELD = 42u;
const SLACK = 1.0 + 0x1p-9;
const ROUNDINGS = 0x1p-20;

fn macro_total(mine: f32) -> f32 {
  var sum = mine;
  if (MACRO_THREADS > 1u) {
    sum += subgroupShuffleXor(sum, 1u);
  }
  if (MACRO_THREADS > 2u) {
    sum += subgroupShuffleXor(sum, 2u);
  }
  if (MACRO_THREADS > 4u) {
    sum += subgroupShuffleXor(sum, 4u);
  }
  return sum;
}

fn macro_totals(mine: vec2<u32>) -> vec2<u32> {
  var sum = mine;
  if (MACRO_THREADS > 1u) {
    sum += subgroupShuffleXor(sum, 1u);
  }
  if (MACRO_THREADS > 2u) {
    sum += subgroupShuffleXor(sum, 2u);
  }
  if (MACRO_THREADS > 4u) {
    sum += subgroupShuffleXor(sum, 4u);
  }
  return sum;
}

// Squared error of the macro block, as an integer.
fn macro_error(values: Values, largest: u32, factor: u32, thread: u32) -> ErrorSum {
  let byte = mx_scale_byte(scale_up(largest, factor), problem.bump);
  let r0 = residuals4(scaled_magnitudes(values.a.low, factor), byte);
  let r1 = residuals4(scaled_magnitudes(values.a.high, factor), byte);
  let r2 = residuals4(scaled_magnitudes(values.b.low, factor), byte);
  let r3 = residuals4(scaled_magnitudes(values.b.high, factor), byte);
  let mine = max(max(largest4(r0), largest4(r1)), max(largest4(r2), largest4(r3)));
  let block = block_maximum(thread, u32(mine - NO_RESIDUAL));
  let lost = i32(macro_maximum(thread, block)) + NO_RESIDUAL;
  let unit = residual_unit(lost, MACRO_SIZE, false);
  let t0 = truncate4(r0, unit);
  let t1 = truncate4(r1, unit);
  let t2 = truncate4(r2, unit);
  let t3 = truncate4(r3, unit);
  // Sixteen bits each. Halves of their squares add up without carries.
  let s0 = t0 * t0;
  let s1 = t1 * t1;
  let s2 = t2 * t2;
  let s3 = t3 * t3;
  let half = vec4<u32>(0xFFFFu);
  let low = (s0 & half) + (s1 & half) + (s2 & half) + (s3 & half);
  let bits = vec4<u32>(16u);
  let high = (s0 >> bits) + (s1 >> bits) + (s2 >> bits) + (s3 >> bits);
  let sum = macro_totals(vec2<u32>(low.x + low.y + low.z + low.w, high.x + high.y + high.z + high.w));
  if (lost == NO_RESIDUAL) {
    return ErrorSum(0u, 0u, 0);
  }
  return add_to(ErrorSum(sum.y >> 16u, sum.y << 16u, 2 * unit), 0u, sum.x);
}

fn choose_factor(values: Values, largest: u32, thread: u32) -> u32 {
  let top = macro_maximum(thread, largest);
  let field = top >> 23u;
  // Brings the largest magnitude to [4, 8).
  let scale = bitcast<f32>((256u - clamp(field, FIRST_FIELD, 254u)) << 23u);
  let magnitude = vec4<u32>(F32_MAGNITUDE);
  let v0 = bitcast<vec4<f32>>(values.a.low & magnitude) * scale;
  let v1 = bitcast<vec4<f32>>(values.a.high & magnitude) * scale;
  let v2 = bitcast<vec4<f32>>(values.b.low & magnitude) * scale;
  let v3 = bitcast<vec4<f32>>(values.b.high & magnitude) * scale;
  var left = 0u;
  var least = 0x1p100f;
  for (var j = 0u; j < CANDIDATES; j++) {
    // The block's scale is 2^-finer times that of values up to 8, or -2 at least; blocks far finer add nothing.
    let finer = i32(field) - 2 - i32(mx_scale_byte(scale_up(largest, 16u * j), problem.bump));
    let near = finer < 60;
    let shift = select(0, finer, near);
    let f = f32(16u + j);
    let up = f * bitcast<f32>(u32(123 + shift) << 23u);
    let down = bitcast<f32>(u32(127 - shift) << 23u);
    let squares = distances(v0 * up, false) + distances(v1 * up, false) +
      distances(v2 * up, false) + distances(v3 * up, false);
    let error = macro_total(select(0.0, squares * down * down / (f * f), near));
    if (error * SLACK + ROUNDINGS < least) {
      left = 1u << j;
    } else if (error <= least * SLACK + ROUNDINGS) {
      left |= 1u << j;
    }
    least = min(least, error);
  }
  if (field < FIRST_FIELD) {
    left = 0xFFFFu;
  }
  if (top == 0u || top >= F32_INFINITY) {
    left = 1u;
  }

  var best = countTrailingZeros(left);
  var best_error = ErrorSum(1u, 0u, 10000);
  if (countOneBits(left) == 1u) {
    left = 0u;
  }
  // Subgroups go on together until none has candidates left.
  loop {
    if (!subgroupAny(left != 0u)) {
      break;
    }
    let j = countTrailingZeros(left) & 15u;
    let error = macro_error(values, largest, 16u * j, thread);
    if (left != 0u) {
      if (less(weighted(error, (16u + best) * (16u + best)), weighted(best_error, (16u + j) * (16u + j)))) {
        best = j;
        best_error = error;
      }
      left &= left - 1u;
    }
  }
  return 16u * best;
}
