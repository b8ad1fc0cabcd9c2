const scratch = new DataView(new ArrayBuffer(4));

/** Bit pattern of `value` rounded to f32. */
export function f32ToBits(value: number): number {
  scratch.setFloat32(0, value);
  return scratch.getUint32(0);
}

/** The f32 whose bit pattern is `bits`. */
export function f32FromBits(bits: number): number {
  scratch.setUint32(0, bits);
  return scratch.getFloat32(0);
}

const double = new Float64Array(1);
const halves = new Uint32Array(double.buffer);

/** floor(log2(x)) of a positive normal f64, taken from its exponent field. */
export function floorLog2(x: number): number {
  double[0] = x;
  return ((halves[1]! >>> 20) & 2047) - 1023;
}
