// A thread's values: sixteen neighbours, four loads of 16 bytes; two words of codes, one store.

@group(0) @binding(2) var<storage, read_write> codes: array<vec2<u32>>;

struct Values {
  a: Eight,
  b: Eight,
}

fn load_values(unit: u32) -> Values {
  return Values(load8(2u * unit), load8(2u * unit + 1u));
}

fn magnitudes_max(v: Eight) -> vec4<u32> {
  return max(v.low & vec4<u32>(F32_MAGNITUDE), v.high & vec4<u32>(F32_MAGNITUDE));
}

fn largest_magnitude(v: Values) -> u32 {
  let largest = max(magnitudes_max(v.a), magnitudes_max(v.b));
  return max(max(largest.x, largest.y), max(largest.z, largest.w));
}

fn report_values(v: Values, unit: u32) {
  report_non_finite(v.a, 2u * unit);
  report_non_finite(v.b, 2u * unit + 1u);
}
