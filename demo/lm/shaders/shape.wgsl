// What a forward pass works on: `length` new tokens of each of `sequences`, which have `past` before them in a cache that
// holds `capacity` of each.

struct Shape {
  sequences: u32,
  length: u32,
  past: u32,
  capacity: u32,
}
@group(0) @binding(0) var<uniform> shape: Shape;
