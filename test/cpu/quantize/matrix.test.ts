import { describe, expect, it } from 'vitest';
import { InvalidArgumentError } from '../../../src/errors.js';
import {
  bitsPerValue,
  byteLength,
  decodeMatrix,
  decodeMatrixF64,
  type QuantizedMatrix,
  rowRange,
  validateMatrix,
} from '../../../src/matrix/quantized-matrix.js';
import { dequantize, quantize } from '../../../src/quantize/quantize.js';
import { expectSameElements } from '../../support/bytes.js';
import { exact, multiply } from '../../support/exact.js';
import { fill, gaussian } from '../../support/random-data.js';
import { scaleValue } from '../../support/reference-quantizer.js';

const values = fill(3 * 160, gaussian(1));
const MX = quantize(values, { rows: 3, cols: 160, format: 'mxfp4', macroScale: 'static' });
const PLAIN = quantize(values, { rows: 3, cols: 160, format: 'mxfp4' });
const NV = quantize(values, { rows: 3, cols: 160, format: 'nvfp4' });

/** A matrix with one changed scale byte. */
function withScale(q: QuantizedMatrix, index: number, byte: number): QuantizedMatrix {
  const scales = q.scales.slice();
  scales[index] = byte;
  return { ...q, scales };
}

describe('validateMatrix', () => {
  it('takes what quantize makes', () => {
    for (const q of [MX, PLAIN, NV]) expect(() => validateMatrix(q)).not.toThrow();
  });

  it('takes every scale byte that is a non-negative number', () => {
    for (const byte of [0, 1, 127, 254]) validateMatrix(withScale(MX, 0, byte));
    for (const byte of [0, 1, 0x38, 0x7e]) validateMatrix(withScale(NV, 0, byte));
  });

  const { macroScales: _, ...withoutFactors } = MX;
  const { macroSize: __, ...withoutSize } = MX;

  it.each<[string, unknown]>([
    ['unknown format "fp4"', { ...MX, format: 'fp4' }],
    ['unknown format undefined', { ...MX, format: undefined }],
    ['unknown format "toString"', { ...MX, format: 'toString' }],
    ["blockSize 64 is not one of mxfp4's 32, 16", { ...MX, blockSize: 64 }],
    ["blockSize 32 is not one of nvfp4's 16", { ...NV, blockSize: 32 }],
    ['rows = 0 is not a positive integer', { ...MX, rows: 0 }],
    ['rows = 2.5 is not a positive integer', { ...MX, rows: 2.5 }],
    ['cols = -160 is not a positive integer', { ...MX, cols: -160 }],
    ['cols = 168 is not a multiple of the mxfp4 block 32', { ...MX, cols: 168 }],
    ['cols = 168 is not a multiple of the nvfp4 block 16', { ...NV, cols: 168 }],
    ['codes has 239 bytes; [3, 160] needs 240', { ...MX, codes: MX.codes.slice(1) }],
    ['scales has 14 bytes; [3, 160] needs 15', { ...MX, scales: MX.scales.slice(1) }],
    ['scales has 15 bytes; [3, 160] needs 30', { ...NV, scales: MX.scales }],
    ['macroScales and macroSize come together or not at all', withoutFactors],
    ['macroScales and macroSize come together or not at all', withoutSize],
    ['macroScales go with mxfp4, not with nvfp4', { ...NV, macroScales: MX.macroScales, macroSize: 128 }],
    ['macroSize 256 is not one of 128, 64, 32', { ...MX, macroSize: 256 }],
    ['macroSize 0 is not one of 128, 64, 32', { ...MX, macroSize: 0 }],
    ['macroScales has 5 bytes; [3, 160] needs 6', { ...MX, macroScales: MX.macroScales!.slice(1) }],
    ['macroScales has 6 bytes; [3, 160] needs 9', { ...MX, macroSize: 64 }],
    ['scale byte 255 at row 1, block 2 is not a non-negative E8M0 number', withScale(MX, 7, 255)],
    ['scale byte 127 at row 2, block 9 is not a non-negative E4M3 number', withScale(NV, 29, 0x7f)],
    ['scale byte 128 at row 0, block 0 is not a non-negative E4M3 number', withScale(NV, 0, 0x80)],
    ['globalScale 0 is not a positive finite f32', { ...NV, globalScale: 0 }],
    ['globalScale -1 is not a positive finite f32', { ...NV, globalScale: -1 }],
    ['globalScale NaN is not a positive finite f32', { ...NV, globalScale: Number.NaN }],
    ['globalScale Infinity is not a positive finite f32', { ...NV, globalScale: Infinity }],
    ['globalScale 0.1 is not a positive finite f32', { ...NV, globalScale: 0.1 }],
  ])('refuses: %s', (message, q) => {
    expect(() => validateMatrix(q as QuantizedMatrix)).toThrow(new InvalidArgumentError('matrix', message));
  });
});

describe('sizes', () => {
  it('counts bytes', () => {
    expect(byteLength(PLAIN)).toBe(240 + 15);
    expect(byteLength(MX)).toBe(240 + 15 + 6);
    expect(byteLength(NV)).toBe(240 + 30);
  });

  it('counts bits per value as the papers do', () => {
    expect(bitsPerValue({ format: 'mxfp4', blockSize: 32 })).toBe(4.25);
    expect(bitsPerValue({ format: 'mxfp4', blockSize: 16 })).toBe(4.5);
    expect(bitsPerValue({ format: 'mxfp4', blockSize: 32, macroSize: 128 })).toBe(4.3125);
    expect(bitsPerValue({ format: 'mxfp4', blockSize: 16, macroSize: 128 })).toBe(4.5625);
    expect(bitsPerValue({ format: 'mxfp4', blockSize: 32, macroSize: 32 })).toBe(4.5);
    expect(bitsPerValue({ format: 'nvfp4', blockSize: 16 })).toBe(4.5);
  });
});

describe('decodeMatrix', () => {
  /** One block with all sixteen codes, twice. */
  const block = (scale: number, more: Partial<QuantizedMatrix> = {}): QuantizedMatrix => ({
    format: 'mxfp4',
    rows: 1,
    cols: 32,
    blockSize: 32,
    codes: Uint8Array.from({ length: 16 }, (_, i) => ((2 * i) % 16) + 16 * ((2 * i + 1) % 16)),
    scales: Uint8Array.of(scale),
    globalScale: 1,
    hadamard: false,
    ...more,
  });
  const TABLE = [0, 0.5, 1, 1.5, 2, 3, 4, 6, -0, -0.5, -1, -1.5, -2, -3, -4, -6];

  it('multiplies codes by the power of two of every scale byte', () => {
    for (let byte = 0; byte < 255; byte++) {
      const expected = TABLE.map((x) => Math.fround(x * 2 ** (byte - 127)));
      expect([...decodeMatrix(block(byte)).subarray(0, 16)]).toEqual(expected);
    }
    // The top: 4 · 2^126 is beyond f32.
    expect(decodeMatrix(block(253))[6]).toBe(Infinity);
    expect(decodeMatrix(block(252))[7]).toBe(1.5 * 2 ** 127);
  });

  it('makes a block with the NaN scale NaN', () => {
    expect([...decodeMatrix(block(255))]).toEqual(Array(32).fill(Number.NaN));
    const nv = { format: 'nvfp4', blockSize: 16, scales: Uint8Array.of(0x7f, 0x7f) } as const;
    expect([...decodeMatrix(block(0, nv))]).toEqual(Array(32).fill(Number.NaN));
  });

  it('divides by the macro factor, as a multiplication by its f32 inverse', () => {
    for (const m of [0, 1, 128, 255]) {
      const q = block(127, { macroScales: Uint8Array.of(m), macroSize: 128 });
      const inverse = Math.fround(256 / (256 + m));
      expect([...decodeMatrix(q).subarray(0, 16)]).toEqual(TABLE.map((x) => Math.fround(x * inverse)));
    }
  });

  it('rounds the product of code, scale and tensor scale once', () => {
    const globalScale = Math.fround(1 / 3);
    const q = block(0, { format: 'nvfp4', blockSize: 16, scales: Uint8Array.of(0x7b, 0x01), globalScale });
    // 0x7B is 352, 0x01 is 2^-9.
    const expected = [352, 2 ** -9].flatMap((scale) =>
      TABLE.map((x) => Math.fround(x * scale * globalScale)),
    );
    expect([...decodeMatrix(q)]).toEqual(expected);
  });

  it('has an f64 form in which every product is exact', () => {
    for (const q of [MX, PLAIN, NV]) {
      const decoded = decodeMatrixF64(q);
      expectSameElements(Float32Array.from(decoded), decodeMatrix(q), q.format);
      for (let i = 0; i < decoded.length; i++) {
        const row = Math.floor(i / q.cols);
        const col = i % q.cols;
        const at = (size: number) => row * Math.ceil(q.cols / size) + Math.floor(col / size);
        const byte = q.scales[at(q.blockSize)]!;
        const factors = [
          TABLE[(q.codes[i >> 1]! >> (4 * (i % 2))) & 15]!,
          q.format === 'mxfp4' ? 2 ** (byte - 127) : scaleValue(byte),
          q.globalScale,
          q.macroScales ? Math.fround(256 / (256 + q.macroScales[at(128)]!)) : 1,
        ];
        const { num, den } = factors.map(exact).reduce(multiply);
        const value = exact(decoded[i]!);
        expect(value.num * den).toBe(num * value.den);
      }
    }
  });

  it('does not undo a rotation; dequantize does', () => {
    const q = quantize(values, { rows: 3, cols: 160, format: 'nvfp4', hadamard: true });
    expect(decodeMatrix(q)).toEqual(dequantize({ ...q, hadamard: false }));
    expect(decodeMatrix(q)).not.toEqual(dequantize(q));
  });
});

describe('rowRange', () => {
  it.each([MX, PLAIN, NV])('gives rows that decode to the same values', (q) => {
    const rows = rowRange(q, 1, 3);
    expect(() => validateMatrix(rows)).not.toThrow();
    expect(decodeMatrix(rows)).toEqual(decodeMatrix(q).slice(160));
    expect(rows.codes.buffer).toBe(q.codes.buffer);
  });
});
