// A row of x in the registers of a workgroup's threads: HELD times eight values each, WORKGROUP · 8 apart.
// Shared: 4 bytes. Features: subgroups.
//
// Measured on an H200, k = 4096 to f16, m = 16, µs where an empty dispatch takes 1.85: HELD = 1, 2, 4, 8, 16 2.87, 2.92, 2.98,
// 3.20, 3.56; m = 2048 level up to 8. Dropped: only two held and the rest read again, 5.3 for 3.7 at k = 14336, at m = 2048
// 61 for 45.

struct Eight {
  low: vec4<f32>,
  high: vec4<f32>,
}

// repeat h < HELD
var<private> held$h: Eight;
// end repeat
var<workgroup> largest_bits: atomic<u32>;

// Values 8 · i and on of a row; zero past its end.
fn load_x8(row: u32, i: u32) -> Eight {
  if (row >= conversion.m || i >= conversion.k / 8u) {
    return Eight();
  }
  let at = row * (conversion.k / 4u) + 2u * i;
  return Eight(load_x4(at), load_x4(at + 1u));
}

fn magnitude(value: Eight) -> u32 {
  let low = bitcast<vec4<u32>>(value.low) & vec4<u32>(0x7FFFFFFFu);
  let high = bitcast<vec4<u32>>(value.high) & vec4<u32>(0x7FFFFFFFu);
  let larger = max(low, high);
  return max(max(larger.x, larger.y), max(larger.z, larger.w));
}

// Reads a row.
fn hold_row(row: u32, thread: u32) {
  // repeat h < HELD
  held$h = load_x8(row, thread + $hu * WORKGROUP);
  // end repeat
}

// Bits of the largest magnitude of the row that is held; all threads come here.
fn largest_of_row() -> u32 {
  var most = 0u;
  // repeat h < HELD
  most = max(most, magnitude(held$h));
  // end repeat
  most = subgroupMax(most);
  if (subgroupElect()) {
    atomicMax(&largest_bits, most);
  }
  workgroupBarrier();
  return atomicLoad(&largest_bits);
}
