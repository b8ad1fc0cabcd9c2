// Errors of regions of x, of any size, read from memory.

// floor(log2) of the largest residual of a region, in units of 2^-150, or NO_RESIDUAL where nothing is lost.
fn largest_residual(region: Region, factor: u32, byte: u32) -> i32 {
  var largest = NO_RESIDUAL;
  for (var row = region.row; row < region.row + region.height; row++) {
    let first = (row * problem.cols + region.col) / 4u;
    for (var i = first; i < first + region.width / 4u; i++) {
      largest = max(largest, largest4(residuals4(scaled_magnitudes(x[i], factor), byte)));
    }
  }
  return largest;
}

// `start` plus the residuals of a region in units of 2^unit, as squares or (absolute) as they are.
fn add_residuals(start: ErrorSum, region: Region, factor: u32, byte: u32, unit: i32, absolute: bool) -> ErrorSum {
  var sum = start;
  for (var row = region.row; row < region.row + region.height; row++) {
    let first = (row * problem.cols + region.col) / 4u;
    for (var i = first; i < first + region.width / 4u; i++) {
      sum = add4(sum, truncate4(residuals4(scaled_magnitudes(x[i], factor), byte), unit), absolute);
    }
  }
  return sum;
}

fn block_error(region: Region, factor: u32, byte: u32, absolute: bool) -> ErrorSum {
  let largest = largest_residual(region, factor, byte);
  if (largest == NO_RESIDUAL) {
    return ErrorSum(0u, 0u, 0);
  }
  let unit = residual_unit(largest, region.width * region.height, absolute);
  return add_residuals(ErrorSum(0u, 0u, select(2 * unit, unit, absolute)), region, factor, byte, unit, absolute);
}

// The same in floats, about.
fn estimated_error(region: Region, factor: f32, absolute: bool) -> f32 {
  var sum = 0.0;
  for (var row = region.row; row < region.row + region.height; row++) {
    let first = (row * problem.cols + region.col) / 4u;
    for (var i = first; i < first + region.width / 4u; i++) {
      sum += distances(bitcast<vec4<f32>>(x[i] & vec4<u32>(F32_MAGNITUDE)) * factor, absolute);
    }
  }
  return sum;
}
