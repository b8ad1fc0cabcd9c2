// Macro factors of x: 1/f = 256 / (256 + byte).
// x_macros: u8[m, ceil(k / X_MACRO)], four to a word

@group(0) @binding(5) var<storage, read> x_macros: array<u32>;

fn x_macro(row: u32, block: u32) -> f32 {
  let i = row * ((conversion.k + X_MACRO - 1u) / X_MACRO) + block / (X_MACRO / X_BLOCK);
  let byte = (x_macros[i >> 2u] >> ((i & 3u) * 8u)) & 0xFFu;
  // A division is only good to 2.5 ULP in WGSL; f = 1 has to be exact.
  return select(256.0 / f32(256u + byte), 1.0, byte == 0u);
}
