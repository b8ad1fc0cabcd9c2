// Codes as the number of thresholds that a magnitude has reached. The multiplication before rounding to E2M1 rounds
// monotonically, so each code begins at some least magnitude, and no element needs its product.

// Least magnitudes, as f32 bits, of codes 1, 2, 3, 4, and 5, 6, 7; the last component is unused.
struct Thresholds {
  low: vec4<u32>,
  high: vec4<u32>,
}

// By bisection: code 4 first, then 2 or 6, then an odd one.
fn reached4(v: vec4<u32>, t: Thresholds) -> vec4<u32> {
  let fours = v >= vec4<u32>(t.low.w);
  let twos = v >= select(vec4<u32>(t.low.y), vec4<u32>(t.high.y), fours);
  let odd = select(
    select(vec4<u32>(t.low.x), vec4<u32>(t.low.z), twos),
    select(vec4<u32>(t.high.x), vec4<u32>(t.high.z), twos),
    fours,
  );
  return select(vec4<u32>(0u), vec4<u32>(4u), fours) | select(vec4<u32>(0u), vec4<u32>(2u), twos) |
    select(vec4<u32>(0u), vec4<u32>(1u), v >= odd);
}
