// Least magnitudes of codes under the scale 2^0 without macro factors: the midpoints of E2M1, or what follows them where
// a tie goes down.

fn code_thresholds(factor: u32) -> Thresholds {
  return Thresholds(
    vec4<u32>(0x3E800001u, 0x3F400000u, 0x3FA00001u, 0x3FE00000u),
    vec4<u32>(0x40200001u, 0x40600000u, 0x40A00001u, 0x7F800000u),
  );
}
