// Canonical bytes to kernel order (src/matrix/pack.ts): what every packing kernel is given.

struct Packing {
  rows: u32,
  // What a row has in canonical and in kernel order: pairs of words and chunks, or bytes.
  from_width: u32,
  to_width: u32,
  // Where the first row begins in the binding, which starts at the alignment that the device wants: in u32.
  first_word: u32,
}

@group(0) @binding(0) var<uniform> problem: Packing;
