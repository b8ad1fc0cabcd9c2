// Canonical bytes to kernel order (src/matrix/pack.ts): what every packing kernel is given.

struct Packing {
  rows: u32,
  // A multiple of sixteen.
  k: u32,
  // Where the first row begins in the bindings, which start at the alignment that the device wants: in u32.
  first_code_word: u32,
  first_scale_word: u32,
}

@group(0) @binding(0) var<uniform> problem: Packing;

fn chunks_per_row() -> u32 {
  return (problem.k + 31u) / 32u;
}
