// The status word: 0, or the complement of the lowest flat index of a value that is NaN or Inf. It is only ever raised,
// so one word can serve many quantizations.

@group(0) @binding(5) var<storage, read_write> status: atomic<u32>;

fn report_non_finite(values: Eight, word: u32) {
  let low = (values.low & vec4<u32>(0x7FFFFFFFu)) >= vec4<u32>(0x7F800000u);
  let high = (values.high & vec4<u32>(0x7FFFFFFFu)) >= vec4<u32>(0x7F800000u);
  if (any(low) || any(high)) {
    var first = 7u;
    first = select(first, 6u, high.z);
    first = select(first, 5u, high.y);
    first = select(first, 4u, high.x);
    first = select(first, 3u, low.w);
    first = select(first, 2u, low.z);
    first = select(first, 1u, low.y);
    first = select(first, 0u, low.x);
    atomicMax(&status, ~(8u * word + first));
  }
}
