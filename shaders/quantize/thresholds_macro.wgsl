// Least magnitudes of codes under the scale 2^0, by the macro factor's byte. Constant, computed on the CPU.

@group(0) @binding(10) var<storage, read> macro_thresholds: array<Thresholds, 256>;

fn code_thresholds(factor: u32) -> Thresholds {
  return macro_thresholds[factor];
}
