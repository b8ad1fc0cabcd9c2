// Bit patterns of f32.

const F32_SIGN = 0x80000000u;
const F32_MAGNITUDE = 0x7FFFFFFFu;
const F32_INFINITY = 0x7F800000u;
const F32_MAX = 0x7F7FFFFFu;
const F32_NAN = 0x7FC00000u;
