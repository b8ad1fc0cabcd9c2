// A row of x for the threads of a workgroup, eight values at a time: the first sixteen of a thread stay in registers
// between the search for the row's largest and what is made of it; what is left is read again.
// Shared: 4 bytes. Features: subgroups.

struct Eight {
  low: vec4<f32>,
  high: vec4<f32>,
}

var<private> held0: Eight;
var<private> held1: Eight;
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

// Reads what a thread has of a row.
fn hold_row(row: u32, thread: u32) {
  held0 = load_x8(row, thread);
  held1 = load_x8(row, thread + WORKGROUP);
}

// Value i of a row, which is thread `thread`'s: thread + a multiple of WORKGROUP.
fn row_value(row: u32, i: u32, thread: u32) -> Eight {
  if (i == thread) {
    return held0;
  }
  if (i == thread + WORKGROUP) {
    return held1;
  }
  return load_x8(row, i);
}

// Bits of the largest magnitude of a row of `cols8` eights, which is held; all threads come here.
fn largest_of_row(row: u32, cols8: u32, thread: u32) -> u32 {
  var most = max(magnitude(held0), magnitude(held1));
  for (var i = thread + 2u * WORKGROUP; i < cols8; i += WORKGROUP) {
    most = max(most, magnitude(load_x8(row, i)));
  }
  most = subgroupMax(most);
  if (subgroupElect()) {
    atomicMax(&largest_bits, most);
  }
  workgroupBarrier();
  return atomicLoad(&largest_bits);
}
