// Codes of eight NVFP4 values.

const NAN_BYTE = 0x7Fu;

fn element_codes(values: Eight, byte: u32, row: u32, col: u32, word: u32) -> u32 {
  return nv_codes(values, byte, word);
}
