/** Element types of safetensors files, and their values as f32. */
import { InvalidArgumentError, UnsupportedError } from '../errors.js';
import { E4M3_VALUES } from '../formats/e4m3.js';
import { f16Values } from '../formats/f16.js';
import { ieeeValues } from '../formats/ieee.js';

/**
 * Bits of one element. The order is the alignment order of the reference implementation, low to high, which is also
 * (reversed) the order in which it writes tensors. Source: safetensors 0.8, `Dtype` in `tensor.rs`.
 */
export const DTYPE_BITS = {
  BOOL: 8,
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
  U8: 8,
  I8: 8,
  F8_E5M2: 8,
  F8_E4M3: 8,
  F8_E8M0: 8,
  F8_E4M3FNUZ: 8,
  F8_E5M2FNUZ: 8,
  I16: 16,
  U16: 16,
  F16: 16,
  BF16: 16,
  I32: 32,
  U32: 32,
  F32: 32,
  C64: 64,
  F64: 64,
  I64: 64,
  U64: 64,
} as const;

export type Dtype = keyof typeof DTYPE_BITS;

export const DTYPES = Object.keys(DTYPE_BITS) as readonly Dtype[];

/** The dtypes that `toFloat32` decodes. Each of their values is an f32 exactly. */
export const FLOAT_DTYPES = ['F32', 'BF16', 'F16', 'F8_E4M3', 'F8_E5M2'] as const;

export type FloatDtype = (typeof FLOAT_DTYPES)[number];

/** Whether a dtype name is a known one. */
export function isDtype(name: string): name is Dtype {
  return Object.hasOwn(DTYPE_BITS, name);
}

/** @throws UnsupportedError unless `toFloat32` decodes `dtype`; what it does decode is named */
export function requireFloatDtype(dtype: Dtype): asserts dtype is FloatDtype {
  if (!(FLOAT_DTYPES as readonly Dtype[]).includes(dtype)) {
    throw new UnsupportedError('dtype', `${dtype} has no conversion to f32; ${FLOAT_DTYPES.join(', ')} have`);
  }
}

/**
 * Bytes of a tensor: the product of `shape` (1 for a scalar, shape []) times the bits of `dtype`.
 * @param fail throws the caller's error when a product passes 2^53 - 1 or the bits do not fill whole bytes
 */
export function tensorByteLength(
  dtype: Dtype,
  shape: readonly number[],
  fail: (message: string) => never,
): number {
  const tensor = `shape ${showShape(shape)} of ${dtype}`;
  const bits = [...shape, DTYPE_BITS[dtype]].reduce<number>((product, factor) => {
    const next = product * factor;
    return Number.isSafeInteger(next) ? next : fail(`${tensor} overflows: over 2^53 - 1 elements or bits`);
  }, 1);
  if (bits % 8 !== 0) fail(`${tensor} is ${bits} bits, which is not a whole number of bytes`);
  return bits / 8;
}

/** A shape as messages show it: `[384, 1024]`, long ones cut. */
export function showShape(shape: readonly number[]): string {
  return `[${shape.slice(0, 8).join(', ')}${shape.length > 8 ? ', …' : ''}]`;
}

/**
 * The values of packed little-endian elements, in a new array: exact, subnormals, infinities and signed zeros included.
 * NaNs stay NaN. `bytes` may start at any address.
 * @throws UnsupportedError for a dtype that is not one of `FLOAT_DTYPES`
 * @throws InvalidArgumentError when `bytes` is not a whole number of elements
 */
export function toFloat32(bytes: Uint8Array, dtype: Dtype): Float32Array<ArrayBuffer> {
  requireFloatDtype(dtype);
  const elementBytes = DTYPE_BITS[dtype] / 8;
  const length = bytes.byteLength / elementBytes;
  if (!Number.isInteger(length)) {
    throw new InvalidArgumentError(
      'dtype',
      `${bytes.byteLength} bytes are not a whole number of ${dtype} elements of ${elementBytes} bytes`,
    );
  }
  const values = new Float32Array(length);
  switch (dtype) {
    case 'F32':
      new Uint8Array(values.buffer).set(bytes);
      break;
    case 'BF16': {
      // BF16 is the upper half of an f32. Typed arrays are little-endian on every host that has WebGPU.
      const codes = as16Bit(bytes);
      const bits = new Uint32Array(values.buffer);
      for (let i = 0; i < length; i++) bits[i] = codes[i]! << 16;
      break;
    }
    case 'F16':
      lookUp(as16Bit(bytes), f16Values(), values);
      break;
    case 'F8_E4M3':
      lookUp(bytes, E4M3_F32, values);
      break;
    case 'F8_E5M2':
      lookUp(bytes, E5M2_F32, values);
      break;
  }
  return values;
}

const E4M3_F32 = Float32Array.from(E4M3_VALUES);
const E5M2_F32 = ieeeValues(5, 2);

function lookUp(codes: Uint8Array | Uint16Array, table: Float32Array, values: Float32Array): void {
  for (let i = 0; i < values.length; i++) values[i] = table[codes[i]!]!;
}

/** The bytes as u16: a view where they are aligned, else of a copy. */
function as16Bit(bytes: Uint8Array): Uint16Array {
  const aligned = bytes.byteOffset % 2 === 0 ? bytes : new Uint8Array(bytes);
  return new Uint16Array(aligned.buffer, aligned.byteOffset, aligned.byteLength / 2);
}
