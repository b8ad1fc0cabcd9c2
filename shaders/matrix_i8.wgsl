// Elements of tiles as int8 (int8_weights.wgsl), sums as i32.

const ELEMENT_BYTES = 1u;
alias element = i8;
alias sum_type = i32;
