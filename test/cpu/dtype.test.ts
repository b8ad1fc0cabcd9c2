import { describe, expect, it } from 'vitest';
import {
  DTYPE_BITS,
  DTYPES,
  type Dtype,
  FLOAT_DTYPES,
  isDtype,
  tensorByteLength,
  toFloat32,
} from '../../src/checkpoint/dtype.js';
import { InvalidArgumentError, UnsupportedError } from '../../src/errors.js';

/**
 * The value of a code by arithmetic alone: fields by division and remainder, value as a sum of powers of two.
 * `finite` formats have no Inf, and NaN only in the very last code.
 */
function decode(code: number, exponentBits: number, mantissaBits: number, finite = false): number {
  const mantissas = 2 ** mantissaBits;
  const exponents = 2 ** exponentBits;
  const mantissa = code % mantissas;
  const exponent = Math.floor(code / mantissas) % exponents;
  const negative = Math.floor(code / mantissas / exponents) === 1;
  const bias = exponents / 2 - 1;

  let magnitude = 0;
  for (let bit = 0; bit < mantissaBits; bit++) {
    const isSet = Math.floor(mantissa / 2 ** bit) % 2 === 1;
    if (isSet) magnitude += 2 ** (Math.max(exponent, 1) - bias + bit - mantissaBits);
  }
  if (exponent > 0) magnitude += 2 ** (exponent - bias);
  if (exponent === exponents - 1) {
    if (finite ? mantissa === mantissas - 1 : mantissa > 0) return Number.NaN;
    if (!finite) magnitude = Number.POSITIVE_INFINITY;
  }
  return negative ? -magnitude : magnitude;
}

/** Every 16-bit pattern, little-endian, after `offset` bytes of something else. */
function allPatterns16(offset = 0): Uint8Array {
  const bytes = new Uint8Array(offset + 2 * 65536).fill(0xaa, 0, offset);
  const view = new DataView(bytes.buffer, offset);
  for (let code = 0; code < 65536; code++) view.setUint16(2 * code, code, true);
  return bytes.subarray(offset);
}

function expectSame(values: Float32Array, expected: (code: number) => number): void {
  // One comparison per code through `expect` would take seconds.
  const wrong = Array.from(values.keys()).filter((code) => !Object.is(values[code], expected(code)));
  expect(wrong).toEqual([]);
}

describe('toFloat32', () => {
  it('decodes all 65,536 F16 patterns', () => {
    expectSame(toFloat32(allPatterns16(), 'F16'), (code) => decode(code, 5, 10));
  });

  it('decodes all 65,536 BF16 patterns', () => {
    expectSame(toFloat32(allPatterns16(), 'BF16'), (code) => decode(code, 8, 7));
  });

  it('decodes all 256 F8 patterns', () => {
    const bytes = Uint8Array.from({ length: 256 }, (_, code) => code);
    expectSame(toFloat32(bytes, 'F8_E4M3'), (code) => decode(code, 4, 3, true));
    expectSame(toFloat32(bytes, 'F8_E5M2'), (code) => decode(code, 5, 2));
  });

  it('knows the landmarks of each format', () => {
    const values = (dtype: Dtype, ...codes: number[]) => [
      ...toFloat32(new Uint8Array(Uint16Array.from(codes).buffer), dtype),
    ];
    expect(values('F16', 0x0001, 0x03ff, 0x0400, 0x7bff, 0xfc00)).toEqual([
      2 ** -24,
      1023 * 2 ** -24,
      2 ** -14,
      65504,
      Number.NEGATIVE_INFINITY,
    ]);
    expect(values('BF16', 0x3f80, 0x8000, 0x0001, 0x7f80)).toEqual([
      1,
      -0,
      2 ** -133,
      Number.POSITIVE_INFINITY,
    ]);
    expect([...toFloat32(Uint8Array.of(0x7e, 0x01, 0xfe), 'F8_E4M3')]).toEqual([448, 2 ** -9, -448]);
    expect([...toFloat32(Uint8Array.of(0x7b, 0x01, 0x7c), 'F8_E5M2')]).toEqual([
      57344,
      2 ** -16,
      Number.POSITIVE_INFINITY,
    ]);
  });

  it('copies F32 bit for bit, NaN payloads and subnormals included', () => {
    const bits = Uint32Array.of(0, 0x80000000, 1, 0x007fffff, 0x3f800000, 0x7f800000, 0x7fa00001, 0xffc12345);
    const values = toFloat32(new Uint8Array(bits.buffer), 'F32');
    expect([...new Uint32Array(values.buffer)]).toEqual([...bits]);
  });

  it.each(['BF16', 'F16', 'F32'] as const)('reads %s from any address', (dtype) => {
    const bits = (offset: number) => new Uint32Array(toFloat32(allPatterns16(offset), dtype).buffer);
    const aligned = bits(0);
    for (const offset of [1, 2, 3, 5])
      expect(Buffer.compare(bytesOf(bits(offset)), bytesOf(aligned))).toBe(0);
  });

  it('reads a Node Buffer, and takes no tensor as an empty array', () => {
    expect([...toFloat32(Buffer.from([0, 0x80, 0x3f]).subarray(1), 'BF16')]).toEqual([1]);
    for (const dtype of FLOAT_DTYPES) expect(toFloat32(new Uint8Array(0), dtype)).toHaveLength(0);
  });

  it.each(FLOAT_DTYPES)('returns %s values that share nothing with the bytes', (dtype) => {
    const bytes = new Uint8Array(16);
    toFloat32(bytes, dtype).fill(1);
    expect([...bytes]).toEqual(new Array(16).fill(0));
  });

  it.each([
    ['BF16', 3, 2],
    ['F16', 1, 2],
    ['F32', 6, 4],
  ] as const)('refuses a broken %s element', (dtype, length, size) => {
    expect(() => toFloat32(new Uint8Array(length), dtype)).toThrow(InvalidArgumentError);
    expect(() => toFloat32(new Uint8Array(length), dtype)).toThrow(
      `${length} bytes are not a whole number of ${dtype} elements of ${size} bytes`,
    );
  });

  it('names what it cannot decode, and what it can', () => {
    const others = DTYPES.filter((dtype) => !(FLOAT_DTYPES as readonly Dtype[]).includes(dtype));
    expect(others).toContain('F4');
    for (const dtype of others) {
      expect(() => toFloat32(new Uint8Array(8), dtype)).toThrow(UnsupportedError);
      expect(() => toFloat32(new Uint8Array(8), dtype)).toThrow(
        `${dtype} has no conversion to f32; F32, BF16, F16, F8_E4M3, F8_E5M2 have`,
      );
    }
  });

  it.each(['BF16', 'F16'] as const)('converts 28 M %s values in under a second', (dtype) => {
    const bytes = new Uint8Array(2 * 28_000_000);
    // The best of three, since the machine may have other work.
    const times = [1, 2, 3].map(() => {
      const start = performance.now();
      toFloat32(bytes, dtype);
      return performance.now() - start;
    });
    expect(Math.min(...times)).toBeLessThan(1000);
  });
});

describe('dtypes', () => {
  it('are the 22 of the format', () => {
    expect(DTYPES).toHaveLength(22);
    expect(DTYPES.filter((dtype) => DTYPE_BITS[dtype] % 8 !== 0)).toEqual(['F4', 'F6_E2M3', 'F6_E3M2']);
    expect(isDtype('BF16')).toBe(true);
    for (const name of ['bf16', 'FP4', '', 'constructor', '__proto__', 'toString'])
      expect(isDtype(name)).toBe(false);
  });
});

describe('tensorByteLength', () => {
  const length = (dtype: Dtype, shape: number[]) =>
    tensorByteLength(dtype, shape, (message) => {
      throw new Error(message);
    });

  it('multiplies', () => {
    expect(length('BF16', [384, 1024])).toBe(786432);
    expect(length('F32', [])).toBe(4);
    expect(length('F4', [3, 2])).toBe(3);
    expect(length('F6_E2M3', [4])).toBe(3);
    expect(length('U64', [7, 0, 5])).toBe(0);
    expect(length('U8', [2 ** 50 - 1])).toBe(2 ** 50 - 1);
  });

  it('refuses halves of bytes', () => {
    expect(() => length('F4', [1, 3])).toThrow(
      'shape [1, 3] of F4 is 12 bits, which is not a whole number of bytes',
    );
    expect(() => length('F6_E3M2', [2])).toThrow('12 bits');
  });

  it('refuses products beyond 2^53 - 1, of elements and of bits', () => {
    expect(() => length('U8', [2 ** 27, 2 ** 26])).toThrow('shape [134217728, 67108864] of U8 overflows');
    expect(() => length('U64', [2 ** 48])).toThrow('overflows');
    expect(() => length('F4', [2 ** 53 - 1, 2 ** 53 - 1, 2 ** 53 - 1])).toThrow('overflows');
  });
});

function bytesOf(array: Uint32Array): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}
