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
